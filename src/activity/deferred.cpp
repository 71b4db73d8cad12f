#include "rules/policy.hpp"

#include "activity/deferred.hpp"

#include <algorithm>

#include "pg/locks.hpp"
#include "seats/seats.hpp"

namespace mau::deferred {

namespace {

constexpr const char* kNames[] = {"record_activity", "register_user", "add_threepid", "remove_threepid",
                                  "deactivate_user"};

pg::Statement append_sightings_query(
    "INSERT INTO mau.deferred_calls (called_at, function, user_id, at, platform)"
    " SELECT coalesce(timestamptz '2000-01-01 00:00Z' + c.called_at::float8 * interval '1 microsecond',"
    "   clock_timestamp()), 'record_activity', c.user_id, c.at, c.platform::int2"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4)) c(user_id, at, platform, called_at)",
    {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID});
pg::Statement append_report_query(
    "INSERT INTO mau.deferred_calls"
    " (called_at, function, user_id, at, user_type, appservice_id, is_guest, medium, address)"
    " VALUES (coalesce($1, clock_timestamp()), $2, $3, $4, $5, $6, $7, $8, $9)",
    {TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID});

#define MAU_TAKE(chosen)                                                                   \
    "WITH taken AS (DELETE FROM mau.deferred_calls d WHERE d.ctid = ANY (ARRAY("           \
    "  SELECT c.ctid FROM mau.deferred_calls c WHERE " chosen                              \
    " FOR UPDATE SKIP LOCKED)) RETURNING d.*)"                                             \
    " SELECT t.function, t.user_id, t.at, t.platform::int8, t.user_type, t.appservice_id," \
    " t.is_guest, t.medium, t.address, t.called_at FROM taken t ORDER BY t.called_at"
pg::Statement take_query(
    // A call with a future time was made before the clock was set back.
    MAU_TAKE("(c.called_at < $1 OR c.called_at > clock_timestamp() + interval '1 minute')"
             " AND ($3 IS NULL OR c.called_at > $3) ORDER BY c.called_at LIMIT $2"),
    {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID});
pg::Statement take_reports_query(MAU_TAKE("c.user_id = $1 AND c.function <> 'record_activity'"), {TEXTOID});
#undef MAU_TAKE

pg::Statement has_reports_query(
    "SELECT EXISTS (SELECT FROM mau.deferred_calls c WHERE c.user_id = $1"
    " AND c.function <> 'record_activity')",
    {TEXTOID});
pg::Statement forget_query(MAU_DELETE("mau.deferred_calls", "d.user_id = $1"), {TEXTOID});

/// Takes the locks that reading and writing the table need, without waiting; returns whether it could.
bool lock_table() {
    return pg::try_own_table_lock("deferred_calls", RowExclusiveLock);
}

std::optional<std::string_view> text(const pg::Field& field) {
    return field.is_null() ? std::nullopt : std::optional<std::string_view>(field.text());
}

std::vector<Call> calls_of(const pg::Rows& rows) {
    std::vector<Call> calls;
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const auto* const name = std::find(std::begin(kNames), std::end(kNames), rows.at(i, 0).text());
        if (name == std::end(kNames)) continue;  // a constraint forbids it
        Call call;
        call.function = static_cast<Function>(name - kNames);
        call.user_id = rows.at(i, 1).text();
        call.at = rows.at(i, 2).optional_integer();
        const std::int64_t platform = rows.at(i, 3).optional_integer().value_or(0);
        call.platform = static_cast<Platform>(platform);
        call.user_type = text(rows.at(i, 4));
        call.appservice_id = text(rows.at(i, 5));
        if (!rows.at(i, 6).is_null()) call.is_guest = rows.at(i, 6).boolean();
        call.medium = text(rows.at(i, 7));
        call.address = text(rows.at(i, 8));
        call.called_at = rows.at(i, 9).integer();
        calls.push_back(call);
    }
    return calls;
}

/// The time of a call, unless it is out of range: mau is younger than 2000, and no call is made in the
/// future.
std::optional<std::int64_t> plausible(std::optional<std::int64_t> called_at) {
    return called_at && *called_at > 0 && *called_at <= GetCurrentTimestamp() ? called_at : std::nullopt;
}

void lose(std::size_t calls, const char* detail, const char* hint) {
    seats::count_lost(static_cast<std::int64_t>(calls));
    pg::guard([&] {
        ereport(WARNING, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("mau could not store a deferred call"),
                          errdetail("%s", detail), errhint("%s", hint)));
    });
}

}  // namespace

void append(const std::vector<Call>& calls, WhenLocked when_locked) {
    if (calls.empty()) return;
    if (!lock_table()) {
        if (when_locked == WhenLocked::raise)
            throw Error(sqlstate::lock_not_available, "mau.deferred_calls is locked",
                        "Rows that have to be written are locked as well.",
                        "End the transaction that has locked mau's tables.");
        return lose(calls.size(), "mau.deferred_calls is locked, and so are the rows that the call writes.",
                    "End the transaction that has locked mau's tables, and make the call again.");
    }
    std::uint64_t stored = 0;
    std::vector<std::string_view> user_ids;
    std::vector<std::int64_t> times, platforms;
    std::vector<std::optional<std::int64_t>> called_at;
    for (const Call& call : calls) {
        if (call.function != Function::record_activity) {
            stored += append_report_query
                          .write(plausible(call.called_at), kNames[static_cast<int>(call.function)],
                                 call.user_id, call.at, call.user_type, call.appservice_id, call.is_guest,
                                 call.medium, call.address)
                          .count;
            continue;
        }
        user_ids.push_back(call.user_id);
        times.push_back(*call.at);
        platforms.push_back(static_cast<int>(call.platform));
        called_at.push_back(plausible(call.called_at));
    }
    if (!user_ids.empty())
        stored += append_sightings_query.write(user_ids, times, platforms, called_at).count;
    if (stored == calls.size()) return;
    if (when_locked == WhenLocked::raise) throw not_written("mau.deferred_calls");
    lose(calls.size() - stored, "A trigger keeps rows of mau.deferred_calls from being written.",
         "Drop the trigger, and make the call again.");
}

bool has_reports(std::string_view user_id) {
    // While another session has locked the table, the order of reports is not kept, so that none is lost.
    return lock_table() && has_reports_query.read_latest(user_id).at(0, 0).boolean();
}

std::vector<Call> take(std::optional<std::int64_t> after, std::int64_t before, std::int64_t limit) {
    return calls_of(take_query.write(before, limit, after));
}

std::vector<Call> take_reports(std::string_view user_id) {
    return calls_of(take_reports_query.write(user_id));
}

bool forget(std::string_view user_id) {
    return pg::delete_all(forget_query, "mau.deferred_calls", user_id) > 0;
}

}  // namespace mau::deferred
