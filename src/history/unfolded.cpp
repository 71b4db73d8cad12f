// Visits that are not folded yet, in the order of chunks and days.
#include "history/reader.hpp"

#include "history/history.hpp"

namespace mau::history {

namespace {

constexpr long kFetch = 1000;

std::vector<std::pair<Oid, pg::Param>> parameters(const Question& question, const Layout& layout) {
    std::optional<int> first, platform;
    if (!layout.before) first = static_cast<int>(to_date_datum(layout.days.first));
    if (question.platform) platform = static_cast<int>(*question.platform);
    return {{DATEOID, static_cast<int>(to_date_datum(layout.days.last))},
            {DATEOID, first},
            {INT2OID, platform},
            {TEXTOID, question.service}};
}

}  // namespace

// PostgreSQL sorts them, on disk if they exceed work_mem. Normally there are a few thousand.
Unfolded::Unfolded(const Question& question, const Layout& layout)
    : cursor_(
          "SELECT v.user_no, v.day, v.platform FROM mau.visits v WHERE v.day <= $1"
          " AND ($2 IS NULL OR v.day >= $2)"
          " AND ($3 IS NULL OR v.platform = $3)"
          " AND ($4 IS NULL OR v.service = $4)"
          " ORDER BY v.user_no >> 16, v.day",
          parameters(question, layout)) {}

const Unfolded::Visit* Unfolded::head() {
    if (row_ >= batch_.count) {
        if (row_ > 0 && batch_.count < kFetch) return nullptr;
        batch_ = cursor_.fetch(kFetch);
        row_ = 0;
        if (batch_.empty()) {
            row_ = 1;  // that was the end
            return nullptr;
        }
    }
    const std::int64_t user_no = batch_.at(row_, 0).integer();
    const int platform = DatumGetInt16(batch_.at(row_, 2).datum());
    visit_ = {chunk_of(user_no), from_date_datum(DatumGetDateADT(batch_.at(row_, 1).datum())),
              position_of(user_no), platform};
    return &visit_;
}

}  // namespace mau::history
