#include "cohort/cohort.hpp"

#include <algorithm>
#include <set>

#include "cohort/leaving.hpp"
#include "pg/plain.hpp"
#include "pg/values.hpp"
#include "seats/seats.hpp"
#include "cache/cache.hpp"

namespace mau::cohort {

namespace {

// A reserved user's row counts at any age, so the reserved users among the expired rows are added by key.
pg::Statement count_query(
    "SELECT (SELECT count(*) FROM mau.monthly_active_users m"
    "         WHERE m.service = 'native' AND m.\"timestamp\" >= $1)"
    " + (SELECT count(*) FROM mau.monthly_active_users m"
    "         WHERE m.user_id = ANY ($2) AND m.service = 'native'"
    "           AND m.\"timestamp\" < $1)",
    {INT8OID, TEXTARRAYOID});

pg::Statement count_by_service_query(
    "SELECT m.service, count(*) FROM mau.monthly_active_users m"
    " WHERE m.\"timestamp\" >= $1 OR m.user_id = ANY ($2)"
    " GROUP BY m.service ORDER BY m.service COLLATE \"C\"",
    {INT8OID, TEXTARRAYOID});

pg::Statement active_query(
    "SELECT count(*) FROM mau.monthly_active_users m"
    " WHERE m.\"timestamp\" >= $1 AND ($2 IS NULL OR m.service = $2)",
    {INT8OID, TEXTOID});

pg::Statement lately_active_query(
    "SELECT m.service, count(*) FILTER (WHERE m.\"timestamp\" >= $3),"
    " count(*) FILTER (WHERE m.\"timestamp\" >= $4), count(*)"
    " FROM mau.monthly_active_users m WHERE m.\"timestamp\" >= $1 OR m.user_id = ANY ($2)"
    " GROUP BY m.service ORDER BY m.service COLLATE \"C\"",
    {INT8OID, TEXTARRAYOID, INT8OID, INT8OID});

pg::Statement count_by_host_query(
    "SELECT mau.host_of(m.user_id), count(*) FROM mau.monthly_active_users m"
    " WHERE m.service = 'native' AND (m.\"timestamp\" >= $1 OR m.user_id = ANY ($2))"
    " GROUP BY 1 ORDER BY mau.host_of(m.user_id) COLLATE \"C\"",
    {INT8OID, TEXTARRAYOID});

pg::Statement active_by_host_query(
    "SELECT mau.host_of(a.user_id), count(*) FROM ("
    "SELECT m.user_id FROM mau.monthly_active_users m"
    " WHERE m.\"timestamp\" >= $1 AND ($3 IS NULL OR m.service = $3)"
    " UNION ALL SELECT u.user_id FROM mau.users u"
    // For a period of up to 30 days $1 is not before $2: only members count, and mau.users is not read.
    " WHERE $1 < $2 AND u.last_seen >= $1 AND NOT u.is_guest AND NOT " MAU_U_IS_SUPPORT
    " AND ($3 IS NULL OR " MAU_SERVICE_OF_U
    " = $3) AND NOT EXISTS (SELECT 1 FROM mau.monthly_active_users m"
    "                  WHERE m.user_id = u.user_id AND m.\"timestamp\" >= $1)) a"
    " GROUP BY 1 ORDER BY mau.host_of(a.user_id) COLLATE \"C\"",
    {INT8OID, INT8OID, TEXTOID});

#define MAU_INSERT_ROW \
    "INSERT INTO mau.monthly_active_users AS m (user_id, \"timestamp\", service, renewed, visited)"
#define MAU_OR_REFRESH                                                                                    \
    " ON CONFLICT (user_id) DO UPDATE"                                                                    \
    " SET \"timestamp\" = greatest(m.\"timestamp\", EXCLUDED.\"timestamp\"), service = EXCLUDED.service," \
    " renewed = CASE WHEN EXCLUDED.\"timestamp\" - m.renewed > $5"                                        \
    " THEN EXCLUDED.\"timestamp\" ELSE m.renewed END, visited = greatest(m.visited, EXCLUDED.visited)"    \
    " RETURNING m.user_id, m.xmax = '0'::xid" /* true: it is a new row */
pg::Statement write_query(MAU_INSERT_ROW " VALUES ($1, $2, $3, $2, $4::int4)" MAU_OR_REFRESH,
                          {TEXTOID, INT8OID, TEXTOID, INT8OID, INT8OID});
pg::Statement write_many_query(MAU_INSERT_ROW
                               " SELECT r.user_id, r.at, r.service, r.at, r.visited::int4"
                               " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4))"
                               "   r(user_id, at, service, visited)" MAU_OR_REFRESH,
                               {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8OID});
#undef MAU_INSERT_ROW
#undef MAU_OR_REFRESH

// Moves `renewed` forward for members seen since, so the range of expired entries stays short.
pg::Statement renew_query(
    "UPDATE mau.monthly_active_users m SET renewed = m.\"timestamp\" FROM ("
    "SELECT s.user_id FROM mau.monthly_active_users s WHERE s.renewed < $1"
    " AND s.\"timestamp\" >= $1 ORDER BY s.renewed LIMIT $2 FOR UPDATE SKIP LOCKED) r"
    " WHERE m.user_id = r.user_id",
    {INT8OID, INT8OID});

// Deactivated members, where $2 is true, and locked ones, where $3 is.
pg::Statement deactivated_query(
    "SELECT m.user_id FROM mau.users u JOIN mau.monthly_active_users m ON m.user_id = u.user_id"
    " WHERE u.is_deactivated AND $2 OR u.is_locked AND $3 LIMIT $1",
    {INT8OID, BOOLOID, BOOLOID});

// The oldest by "timestamp", found by the index on `renewed`, which is never after it: a user who is among
// the $2 oldest of a sample has at most the last time among these, and all who are older than that are in the
// index up to it.
#define MAU_CANDIDATES                 \
    " FROM mau.monthly_active_users m" \
    " WHERE m.service = 'native'"      \
    " AND NOT m.user_id = ANY ($1)"
pg::Statement over_limit_query("SELECT m.user_id, m.\"timestamp\"" MAU_CANDIDATES
                               " AND m.renewed <= (SELECT max(o.\"timestamp\") FROM ("
                               "   SELECT s.\"timestamp\" FROM (SELECT m.\"timestamp\"" MAU_CANDIDATES
                               "     ORDER BY m.renewed LIMIT 4 * $2 + 1000) s"
                               "   ORDER BY s.\"timestamp\" LIMIT $2) o)"
                               " ORDER BY m.\"timestamp\" LIMIT $2",
                               {TEXTARRAYOID, INT8OID});
#undef MAU_CANDIDATES

// As Synapse does at its start, but an existing row keeps its time, and a new row has none, because a seat is
// no sighting.
pg::Statement seat_reserved_query(
    "INSERT INTO mau.monthly_active_users (user_id, \"timestamp\", service, renewed)"
    " SELECT r.user_id, 0, " MAU_SERVICE_OF_U
    ", 0 FROM unnest($1) r(user_id)"
    " LEFT JOIN mau.users u ON u.user_id = r.user_id"
    " WHERE ($2 OR u.is_deactivated IS NOT TRUE) AND ($3 OR u.is_locked IS NOT TRUE)"
    " ORDER BY r.user_id ON CONFLICT (user_id) DO NOTHING RETURNING service",
    {TEXTARRAYOID, BOOLOID, BOOLOID});

pg::Statement count_reserved_members_query(
    "SELECT count(*) FROM mau.monthly_active_users m"
    " WHERE m.user_id = ANY ($1) AND m.service = 'native'",
    {TEXTARRAYOID});

Instant cutoff(Instant at) {
    return at - kWindow;
}

std::int64_t only_number(const pg::Rows& rows) {
    return rows.at(0, 0).integer();
}

std::int64_t seat(const Config& config, const std::vector<std::string_view>& reserved) {
    if (reserved.empty() || !recording(config.settings)) return 0;
    // Skips users who have a row, or get one in a transaction in progress.
    std::vector<std::string_view> missing;
    pg::KeyedTable cohort;
    cohort.open(config.cohort_table, config.cohort_index, kCohortIndex);
    for (const std::string_view user : reserved) {
        const pg::Found row = cohort.find(pg::text_datum(user));
        if (!row.exists && !row.in_flight) missing.push_back(user);
    }
    cohort.close();
    if (missing.empty()) return 0;
    const seats::Announced announced;
    const pg::Rows seated = seat_reserved_query.write(missing, config.settings.count_deactivated_users,
                                                      config.settings.count_locked_users);
    for (std::uint64_t i = 0; i < seated.count; ++i) seats::add_rows(config, seated.at(i, 0).text(), 1);
    return static_cast<std::int64_t>(seated.count);
}

/// Removes expired rows, and moves `renewed` forward for users seen since the cutoff. Returns the number
/// removed.
std::int64_t expire(const Config& config, Instant cutoff, const std::vector<std::string_view>& reserved,
                    std::int64_t max_rows) {
    const Expired expired = remove_expired(config, cutoff, reserved, max_rows);
    if ((expired.seen_since || !OidIsValid(config.cohort_by_time)) && expired.rows < max_rows) {
        const seats::Announced announced;
        renew_query.write(cutoff, max_rows - expired.rows);
    }
    return expired.rows;
}

/// Takes out the oldest counted rows above the maximum.
std::int64_t remove_over_limit(const Config& config, const std::vector<std::string_view>& reserved,
                               std::int64_t count) {
    const pg::Rows oldest = over_limit_query.read_latest(reserved, count);
    std::vector<std::string_view> user_ids;
    Instant last = INT64_MIN;
    for (std::uint64_t i = 0; i < oldest.count; ++i) {
        user_ids.push_back(oldest.at(i, 0).text());
        last = std::max(last, oldest.at(i, 1).integer());
    }
    return remove(config, user_ids, last + 1);
}

/// Takes out deactivated and locked members who do not count by the settings.
std::int64_t remove_deactivated(const Config& config, std::int64_t max_rows) {
    const bool without_deactivated = !config.settings.count_deactivated_users,
               without_locked = !config.settings.count_locked_users;
    if (!without_deactivated && !without_locked) return 0;
    const pg::Rows deactivated = deactivated_query.read_latest(max_rows, without_deactivated, without_locked);
    std::vector<std::string_view> user_ids;
    for (std::uint64_t i = 0; i < deactivated.count; ++i) user_ids.push_back(deactivated.at(i, 0).text());
    return remove(config, user_ids, INT64_MAX);
}

/// The native members from the counters; nothing where these are unknown.
std::optional<std::int64_t> counted_natives(const Config& config, Instant at, seats::Purpose purpose) {
    // Reading the counters needs the same right as reading the table.
    if (purpose == seats::Purpose::statement)
        pg::guard([&] { pg::check_rights(config.cohort_table, ACL_SELECT); });
    for (int tries = 0; tries < 3; ++tries) {
        const auto rows = seats::rows(config, purpose);
        if (!rows) return std::nullopt;
        const std::int64_t expired = count_expired_natives(config, at, purpose);
        // For a statement both figures are of its own snapshot; else no row may have left between the two
        // reads.
        if (purpose == seats::Purpose::statement || seats::rows(config, purpose) == rows)
            return *rows - expired;
    }
    return std::nullopt;
}

}  // namespace

std::vector<Group> groups_of(const pg::Rows& rows) {
    std::vector<Group> groups;
    for (std::uint64_t i = 0; i < rows.count; ++i)
        groups.push_back({rows.at(i, 0).string(), rows.at(i, 1).integer()});
    return groups;
}

std::int64_t count(const Config& config, Instant at) {
    if (const auto users = counted_natives(config, at, seats::Purpose::statement)) return *users;
    return only_number(count_query.read(cutoff(at), config::reserved_users_of_statement()));
}

std::int64_t count_now(const Config& config, Instant at) {
    if (const auto users = counted_natives(config, at, seats::Purpose::decision)) return *users;
    return only_number(count_query.read_latest(cutoff(at), config::registered_reserved_users(config)));
}

namespace {

/// The result of a scan for an admission: the number of rows that no transaction is changing, and the users
/// of the other rows.
struct Census {
    std::int64_t settled;
    List* moving;  // C strings; a user may be in it twice
};

/// Whether a version that a snapshot does not see may become a row: its transaction was in progress when the
/// snapshot was taken, and has not aborted. A transaction that began later (from `later` on) has no seat,
/// because we hold the lock: it refreshes a member.
bool may_come(TransactionId maker, Snapshot snapshot, TransactionId later) {
    return TransactionIdIsNormal(maker) && TransactionIdPrecedes(maker, later) &&
           !TransactionIdIsCurrentTransactionId(maker) && XidInMVCCSnapshot(maker, snapshot) &&
           (TransactionIdIsInProgress(maker) || TransactionIdDidCommit(maker));
}

/// Reads every version of every native row by one snapshot, so that a user whose row moves during the scan is
/// not missed.
Census take_census(const Config& config) {
    Census census{0, NIL};
    CommandCounterIncrement();  // rows that this very statement has written count, too
    TransactionId const later = ReadNextTransactionId();
    Snapshot const snapshot = RegisterSnapshot(GetLatestSnapshot());
    Relation const table = pg::open_plain(config.cohort_table, AccessShareLock);
    TableScanDesc const scan = table_beginscan(table, SnapshotAny, 0, nullptr);
    TupleTableSlot* const slot = table_slot_create(table, nullptr);
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        auto* const buffered = reinterpret_cast<BufferHeapTupleTableSlot*>(slot);
        HeapTuple const tuple = buffered->base.tuple;
        LockBuffer(buffered->buffer, BUFFER_LOCK_SHARE);
        const bool visible = HeapTupleSatisfiesVisibility(tuple, snapshot, buffered->buffer);
        const bool changing = !(tuple->t_data->t_infomask & HEAP_XMAX_INVALID) &&
                              !HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_data->t_infomask);
        TransactionId const maker = HeapTupleHeaderGetXmin(tuple->t_data);
        LockBuffer(buffered->buffer, BUFFER_LOCK_UNLOCK);
        if (!visible && !may_come(maker, snapshot, later)) continue;

        slot_getallattrs(slot);
        auto text = [&](int column) { return pg::view_of(DatumGetPointer(slot->tts_values[column])); };
        if (text(service) != "native") continue;
        if (visible && !changing)
            ++census.settled;
        else
            census.moving = lappend(census.moving, pnstrdup(text(user_id).data(), text(user_id).size()));
    }
    ExecDropSingleTupleTableSlot(slot);
    table_endscan(scan);
    table_close(table, AccessShareLock);
    UnregisterSnapshot(snapshot);
    return census;
}

}  // namespace

std::int64_t count_rows_with_in_flight(const Config& config) {
    const Census census = pg::guard([&] { return take_census(config); });
    std::set<std::string_view> moving;
    for (int i = 0; i < list_length(census.moving); ++i)
        moving.insert(static_cast<const char*>(list_nth(census.moving, i)));
    return census.settled + static_cast<std::int64_t>(moving.size());
}

std::vector<Group> count_by_service(Instant at) {
    return groups_of(count_by_service_query.read(cutoff(at), config::reserved_users_of_statement()));
}

std::int64_t active(Instant period, Instant at, std::optional<std::string_view> service) {
    return only_number(active_query.read(at - period, service));
}

Lately lately_active(Instant at) {
    const pg::Rows rows =
        lately_active_query.read(cutoff(at), config::reserved_users_of_statement(), at - kDay, at - 7 * kDay);
    Lately lately;
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const std::string service = rows.at(i, 0).string();
        lately.day.push_back({service, rows.at(i, 1).integer()});
        lately.week.push_back({service, rows.at(i, 2).integer()});
        lately.month.push_back({service, rows.at(i, 3).integer()});
    }
    return lately;
}

std::vector<Group> count_by_host(Instant at) {
    return groups_of(count_by_host_query.read(cutoff(at), config::reserved_users_of_statement()));
}

std::vector<Group> active_by_host(Instant period, Instant at, std::optional<std::string_view> service) {
    return groups_of(active_by_host_query.read(at - period, cutoff(at), service));
}

std::vector<bool> write(const std::vector<Row>& rows) {
    std::vector<bool> made(rows.size());
    auto note = [&](const pg::Rows& written) {
        if (written.count < rows.size()) throw not_written("mau.monthly_active_users");
        for (std::uint64_t i = 0; i < written.count; ++i) made[i] = written.at(i, 1).boolean();
    };
    if (rows.size() == 1) {
        const Row& row = rows.front();
        note(write_query.write(row.user_id, row.at, row.service, std::int64_t{row.visited}, kRenewal));
        return made;
    }
    std::vector<std::string_view> user_ids, services;
    std::vector<std::int64_t> at, visited;
    for (const Row& row : rows) {
        user_ids.push_back(row.user_id);
        at.push_back(row.at);
        services.push_back(row.service);
        visited.push_back(row.visited);
    }
    note(write_many_query.write(user_ids, at, services, visited, kRenewal));
    return made;
}

std::int64_t seat_reserved(const Config& config) {
    return seat(config, config::registered_reserved_users(config));
}

Reaped reap(const Config& config, Instant at, std::int64_t max_rows) {
    Reaped reaped;
    std::int64_t left = max_rows;

    // Before anything is read: a REINDEX that has the table waits for readers of the index, and a reader that
    // comes to write waits for the table.
    pg::guard([&] {
        PreventCommandIfReadOnly("mau.reap()");
        LockRelationOid(config.cohort_table, RowExclusiveLock);
        LockRelationOid(config.users_table, RowExclusiveLock);
    });
    const std::vector<std::string_view> reserved = config::registered_reserved_users(config);
    seats::verify(config);
    reaped.seated = seat(config, reserved);
    reaped.expired = expire(config, cutoff(at), reserved, left);
    left -= reaped.expired;

    if (left > 0) {
        reaped.deactivated = remove_deactivated(config, left);
        left -= reaped.deactivated;
    }

    if (config.settings.limit_usage_by_mau && left > 0) {
        // The newest max - reserved rows of the others stay, none if there are more reserved ones than seats.
        const std::int64_t held = only_number(count_reserved_members_query.read_latest(reserved));
        const std::int64_t stay = std::max<std::int64_t>(0, config.settings.max_mau_value - held);
        const std::int64_t others = only_number(count_query.read_latest(cutoff(at), reserved)) - held;
        if (others > stay)
            reaped.over_limit = remove_over_limit(config, reserved, std::min(others - stay, left));
    }
    // A reap at a future `at` removes users who may be in the cache.
    const bool early = at > pg::to_instant(GetCurrentTimestamp());
    if (reaped.deactivated + reaped.over_limit > 0 || (early && reaped.expired > 0)) cache::invalidate_all();
    return reaped;
}

}  // namespace mau::cohort
