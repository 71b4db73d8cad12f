#include "history/kept.hpp"

#include <algorithm>

namespace mau::history {

namespace {

pg::Statement purged_until_query(
    "SELECT max(d.purged_until) - date '1970-01-01' FROM mau.active_days d"
    " WHERE d.purged_until IS NOT NULL");

}  // namespace

KeptDays::KeptDays() {
    const pg::Rows rows = purged_until_query.read();
    first_ = rows.at(0, 0).is_null() ? kBefore : rows.at(0, 0).int4() + 1;
}

void KeptDays::require(Day day) const {
    if (reach(day)) return;
    throw Error(sqlstate::invalid_parameter, "the history has no days before " + day_label(first_),
                "The question is about days from " + day_label(std::max(day, kFirstDay)) +
                    " on. Older days were purged.",
                "Ask about later days or a shorter period. To keep days for longer from now on, raise "
                "history_retention in mau.settings.");
}

}  // namespace mau::history
