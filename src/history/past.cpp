#include "history/past.hpp"

#include "pg/values.hpp"

namespace mau::past {

namespace {

// The index on `renewed`, which is never after "timestamp", finds most of the later rows directly.
pg::Statement later_query(
    "SELECT EXISTS (SELECT 1 FROM mau.monthly_active_users m WHERE m.renewed > $1)"
    " OR EXISTS (SELECT 1 FROM mau.monthly_active_users m WHERE m.\"timestamp\" > $1)"
    " OR EXISTS (SELECT 1 FROM mau.tasks t WHERE t.task = 'reap'"
    "  AND t.latest_at > $2::timestamptz)"
    " OR ($3 AND EXISTS (SELECT 1 FROM mau.users u WHERE u.last_seen > $1))",
    {INT8OID, TIMESTAMPTZOID, BOOLOID});

}  // namespace

bool is_past(Instant at, Whose whose) {
    if (at == pg::to_instant(GetCurrentTransactionStartTimestamp())) return false;
    const Instant later = at + kTolerance;
    return later_query.read(later, std::int64_t{pg::to_timestamp(later)}, whose == Whose::everybody)
        .at(0, 0)
        .boolean();
}

void refuse(Instant at, const char* hint, Whose whose) {
    if (!is_past(at, whose)) return;
    const std::string text = pg::guard([&]() -> const char* {
        return DatumGetCString(
            DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(pg::to_timestamp(at))));
    });
    throw Error(sqlstate::invalid_parameter, "at lies in the past",
                "It is " + text + ", and there are later sightings.", hint);
}

}  // namespace mau::past
