// Synapse's r30v2 and r30: the users who stay for more than thirty days, by client.
#include "history/questions.hpp"

#include <algorithm>

#include "history/history.hpp"
#include "history/arguments.hpp"
#include "history/kept.hpp"

namespace mau {
namespace {

using namespace history;

/// Synapse counts all users with visits in its table: support users and bots, no guests, no appservice users.
Question as_synapse_counts() {
    Question question;
    question.service = "native";
    question.kind = Kind::not_guest;
    return question;
}

/// The clients in the order in which they are reported; Synapse does not report the unknown.
constexpr Platform kReported[] = {Platform::android, Platform::electron, Platform::ios, Platform::web};

/// The users of all clients and of each.
struct ByClient {
    std::int64_t all = 0;
    std::int64_t of[kPlatforms] = {};
    void report(pg::ResultSet& result) const {
        result.add({"all", all});
        for (const Platform platform : kReported)
            result.add({name(platform), of[static_cast<int>(platform)]});
    }
};

/// The rows of all platforms, united into `out`.
void unite_platforms(const Chunks& chunks, std::size_t rows, const bitmap::BitRows& out) {
    for (std::size_t row = 0; row < rows; ++row) {
        out[row] = chunks.days(Platform::unknown)[row];
        for (int p = 1; p < kPlatforms; ++p) out[row] |= chunks.days(static_cast<Platform>(p))[row];
    }
}

ByClient r30v2_at(const Config& config, Instant at) {
    ByClient users;
    const DayRange days = r30v2_days(at);
    KeptDays().require(days.first);
    const std::size_t rows = length(days);
    const bitmap::Span span{rows - 1, 0, 31};
    const bitmap::BitRows space = scratch(bitmap::returning_scratch(span));
    const bitmap::BitRows united = scratch(rows);
    Layout layout{days};
    layout.by_platform = true;
    Chunks chunks(config, as_synapse_counts(), layout);
    while (chunks.next()) {
        for (const Platform platform : kReported)
            bitmap::returning(chunks.days(platform), rows - 1, rows, span, space,
                              &users.of[static_cast<int>(platform)]);
        unite_platforms(chunks, rows, united);
        bitmap::returning(united, rows - 1, rows, span, space, &users.all);
    }
    chunks.close();
    return users;
}

Datum r30v2(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] { r30v2_at(*config::config(), at).report(result); });
    return Datum(0);
}

Datum r30v2_series(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const DayRange days = range_of(fcinfo, 0, today(), 30);
    Question question = as_synapse_counts();
    question.platform = question_of(args, -1, 2, -1).platform;
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const KeptDays kept;
        kept.require(days.last);
        std::vector<std::int64_t> users(length(days), 0);
        const bitmap::Span span;  // at any time of the day but its first second
        const bitmap::BitRows space = scratch(bitmap::returning_scratch(span));
        for_blocks(*config::config(), question, days, {days}, static_cast<Day>(span.back),
                   static_cast<Day>(span.ahead), [&](const Block& block) {
                       bitmap::returning(block.days(), block.from, block.to, span, space,
                                         users.data() + block.offset);
                   });
        for (std::size_t i = 0; i < users.size(); ++i) {
            const Day day = days.first + static_cast<Day>(i);
            result.add({cell(day), kept.figure(day - static_cast<Day>(span.back), users[i])});
        }
    });
    return Datum(0);
}

struct Registered {
    std::uint16_t position;
    Instant registered_at;
};

/// The accounts of one chunk after the other that are known to have registered.
class RegisteredUsers {
  public:
    explicit RegisteredUsers(const Config& config) : found_(bitmap::kUsers) {
        pg::guard([&] { walk_.open(config.users_table, "users_pkey"); });
    }
    void read(std::int32_t chunk) {
        count_ = pg::guard([&] {
            std::size_t count = 0;
            ScanKeyData keys[2];
            ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE,
                        Int64GetDatum(first_user_of(chunk)));
            ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(first_user_of(chunk + 1)));
            walk_.begin(GetActiveSnapshot(), keys, 2);
            while (TupleTableSlot* const slot = walk_.next()) {
                CHECK_FOR_INTERRUPTS();
                using namespace config::users;
                if (slot->tts_isnull[registered_at] || count == found_.size()) continue;
                found_[count++] = {position_of(DatumGetInt64(slot->tts_values[user_no])),
                                   DatumGetInt64(slot->tts_values[registered_at])};
            }
            walk_.end();
            return count;
        });
    }
    const Registered* begin() const { return found_.data(); }
    const Registered* end() const { return found_.data() + count_; }
    void close() {
        pg::guard([&] { walk_.close(); });
    }

  private:
    std::vector<Registered> found_;
    std::size_t count_ = 0;
    pg::IndexWalk walk_;
};

/// Of each user the newest visit within 30 days counts, if the account is more than 30 days older.
ByClient r30_at(const Config& config, Instant at) {
    constexpr Day kDays = 30;
    ByClient users;
    const Question question = as_synapse_counts();
    const DayRange days = ending(day_of(at), kDays);
    KeptDays().require(days.first);
    Layout layout{days};
    layout.by_platform = true;
    Chunks chunks(config, question, layout);
    RegisteredUsers accounts(config);
    const bitmap::BitRows united = scratch(kDays);
    const bitmap::BitRows space = scratch(kDays + 1);  // accounts old enough on each day; those who are in
    while (chunks.next()) {
        space.clear();
        accounts.read(chunks.chunk());
        for (const Registered& account : accounts) {
            const Day old_enough = std::max<Day>(day_of(account.registered_at) + kDays + 1 - days.first, 0);
            if (old_enough < kDays) space[static_cast<std::size_t>(old_enough)].set(account.position);
        }
        for (std::size_t row = 1; row < kDays; ++row) space[row] |= space[row - 1];
        bitmap::Bits& in = space[kDays];
        const auto count = [&](const bitmap::BitRows& rows) {
            in.clear();
            for (std::size_t row = 0; row < kDays; ++row) {
                bitmap::Bits seen = rows[row];
                seen &= space[row];
                in |= seen;
            }
            return std::int64_t{in.count()};
        };
        for (const Platform platform : kReported)
            users.of[static_cast<int>(platform)] += count(chunks.days(platform));
        unite_platforms(chunks, kDays, united);
        users.all += count(united);
    }
    accounts.close();
    chunks.close();
    return users;
}

Datum r30(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] { r30_at(*config::config(), at).report(result); });
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_r30v2, r30v2);
MAU_FUNCTION(mau_r30v2_series, r30v2_series);
MAU_FUNCTION(mau_r30, r30);

}  // namespace mau
