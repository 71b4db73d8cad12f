#include "activity/registration.hpp"

#include "activity/activity.hpp"

#include "activity/rows.hpp"
#include "cohort/alert.hpp"
#include "cohort/leaving.hpp"
#include "pg/locks.hpp"
#include "pg/plain.hpp"
#include "pg/values.hpp"
#include "cohort/seating.hpp"
#include "seats/seats.hpp"
#include "cache/cache.hpp"

namespace mau::registration {

namespace {

// An upsert draws a user number even if it only updates, so existing rows are updated.
#define MAU_UPDATE_ACCOUNT                                                                 \
    " registered_at = least(u.registered_at, $2), user_type = coalesce($3, u.user_type),"  \
    " appservice_id = coalesce($4, u.appservice_id), is_guest = coalesce($5, u.is_guest)," \
    " is_deactivated = false, is_registered = true"

pg::Statement register_query("UPDATE mau.users u SET" MAU_UPDATE_ACCOUNT " WHERE u.user_id = $1",
                             {TEXTOID, INT8OID, TEXTOID, TEXTOID, BOOLOID});
pg::Statement register_new_query(
    "INSERT INTO mau.users AS u (user_id, registered_at, user_type, appservice_id, is_guest, is_registered)"
    " VALUES ($1, $2, $3, $4, coalesce($5, false), true) ON CONFLICT (user_id) DO UPDATE "
    "SET" MAU_UPDATE_ACCOUNT,
    {TEXTOID, INT8OID, TEXTOID, TEXTOID, BOOLOID});

#undef MAU_UPDATE_ACCOUNT

// A user who was seen before being registered was recorded as a native user.
pg::Statement misplaced_query("SELECT m.service, " MAU_SERVICE_OF_U
                              " FROM mau.monthly_active_users m"
                              " JOIN mau.users u ON u.user_id = m.user_id"
                              " WHERE m.user_id = $1 AND m.service <> " MAU_SERVICE_OF_U,
                              {TEXTOID});
pg::Statement move_service_query("UPDATE mau.monthly_active_users m SET service = " MAU_SERVICE_OF_U
                                 " FROM mau.users u WHERE m.user_id = $1 AND u.user_id = $1"
                                 " AND m.service <> " MAU_SERVICE_OF_U,
                                 {TEXTOID});

// Returns the accounts that differ, and whether each was written.
pg::Statement take_over_query(
    "WITH d AS (SELECT n.* FROM"
    "  ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7))"
    "   WITH ORDINALITY n(user_id, registered_at, user_type, appservice_id, is_guest, is_deactivated,"
    "   is_locked, place)"
    // LIMIT 1 makes the planner use the index.
    "  LEFT JOIN LATERAL (SELECT * FROM mau.users k WHERE k.user_id = n.user_id LIMIT 1) o ON true"
    "  WHERE o.user_id IS NULL OR (o.registered_at, o.user_type, o.appservice_id, o.is_guest,"
    "   o.is_deactivated, o.is_locked, o.is_registered) IS DISTINCT FROM (n.registered_at, n.user_type,"
    "   n.appservice_id, n.is_guest, n.is_deactivated, n.is_locked, true)),"
    " w AS (INSERT INTO mau.users AS u (user_id, registered_at, user_type, appservice_id, is_guest,"
    "   is_deactivated, is_locked, is_registered)"
    "  SELECT d.user_id, d.registered_at, d.user_type, d.appservice_id, d.is_guest, d.is_deactivated,"
    "   d.is_locked, true FROM d ORDER BY d.place"
    "  ON CONFLICT (user_id) DO UPDATE SET registered_at = EXCLUDED.registered_at,"
    "   user_type = EXCLUDED.user_type, appservice_id = EXCLUDED.appservice_id, is_guest = EXCLUDED.is_guest,"
    "   is_deactivated = EXCLUDED.is_deactivated, is_locked = EXCLUDED.is_locked, is_registered = true"
    "  RETURNING u.user_id)"
    " SELECT d.user_id, w.user_id IS NOT NULL FROM d LEFT JOIN w ON w.user_id = d.user_id",
    {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID, BOOLARRAYOID, BOOLARRAYOID});

pg::Statement take_over_first_query(
    "INSERT INTO mau.users"
    " (user_id, registered_at, user_type, appservice_id, is_guest, is_deactivated, is_locked, is_registered)"
    " SELECT n.user_id, n.registered_at, n.user_type, n.appservice_id, n.is_guest, n.is_deactivated,"
    "   n.is_locked, true"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7))"
    "   n(user_id, registered_at, user_type, appservice_id, is_guest, is_deactivated, is_locked)",
    {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID, BOOLARRAYOID, BOOLARRAYOID});

pg::Statement misplaced_among_query(
    "SELECT m.user_id, m.service, " MAU_SERVICE_OF_U
    " FROM unnest($1) n(user_id)"
    " JOIN LATERAL (SELECT * FROM mau.monthly_active_users k WHERE k.user_id = n.user_id LIMIT 1) m ON true"
    " JOIN mau.users u ON u.user_id = n.user_id WHERE m.service <> " MAU_SERVICE_OF_U,
    {TEXTARRAYOID});

pg::Statement join_reserved_query(
    "INSERT INTO mau.monthly_active_users AS m (user_id, \"timestamp\", service, renewed)"
    " SELECT u.user_id, $2, " MAU_SERVICE_OF_U
    ", $2 FROM mau.users u"
    " WHERE u.user_id = $1 AND NOT " MAU_U_IS_SUPPORT
    " ON CONFLICT (user_id) DO UPDATE SET \"timestamp\" = greatest(m.\"timestamp\", EXCLUDED.\"timestamp\")"
    " RETURNING m.xmax = '0'::xid, m.service",  // whether the row is new
    {TEXTOID, INT8OID});

pg::Statement add_threepid_query(
    "INSERT INTO mau.user_threepids (medium, address, user_id) VALUES ($1, $2, $3)"
    " ON CONFLICT (medium, address) DO UPDATE SET user_id = EXCLUDED.user_id",
    {TEXTOID, TEXTOID, TEXTOID});

pg::Statement remove_threepid_query(MAU_DELETE("mau.user_threepids",
                                               "d.medium = $1 AND d.address = $2 AND d.user_id = $3"),
                                    {TEXTOID, TEXTOID, TEXTOID});

// The number of threepids (of a user, or the one given) that other transactions have changed or locked.
#define MAU_CHOSEN_THREEPIDS                          \
    " FROM mau.user_threepids t WHERE t.user_id = $1" \
    " OR t.medium = $2 AND t.address = $3"
pg::Statement held_threepids_query("SELECT (SELECT count(*)" MAU_CHOSEN_THREEPIDS
                                   ") - (SELECT count(*) FROM (SELECT" MAU_CHOSEN_THREEPIDS
                                   " FOR UPDATE SKIP LOCKED) l)",
                                   {TEXTOID, TEXTOID, TEXTOID});
#undef MAU_CHOSEN_THREEPIDS

pg::Statement remove_threepids_query(MAU_DELETE("mau.user_threepids", "d.user_id = $1"), {TEXTOID});

// A key is the user id; Prosody's has a space and the name of the value after it. Sync stores the first 80
// bytes of a key, or up to 3 less so as not to cut a character.
pg::Statement forget_skipped_query(
    MAU_DELETE("mau.source_skipped",
               "(d.row_key = $1 OR starts_with(d.row_key, $1 || ' ')"
               " OR (octet_length(d.row_key) > 76 AND starts_with($1, d.row_key)))"),
    {TEXTOID});

pg::Statement deactivate_query(
    "UPDATE mau.users u SET is_deactivated = true"
    " WHERE u.user_id = $1 AND NOT u.is_deactivated",
    {TEXTOID});

pg::Statement is_active_query(
    "SELECT EXISTS (SELECT FROM mau.users u WHERE u.user_id = $1 AND NOT u.is_deactivated)", {TEXTOID});

// The number, the day of registration and the kind of account stay, because past totals need them.
pg::Statement forget_query(
    "WITH f AS (UPDATE mau.users u SET user_id = NULL, last_seen = NULL, visited = 0,"
    "  registered_at = u.registered_at - u.registered_at % 86400000 WHERE u.user_id = $1 RETURNING 1)"
    " SELECT (SELECT count(*) FROM f), (SELECT count(*) FROM mau.users u WHERE u.user_id = $1)",
    {TEXTOID});

/// Moves a member's row to the service of the account. A bridge's user who becomes native needs a seat;
/// without one the row leaves the cohort.
void move_service(const Config& config, std::string_view user_id, std::string_view from,
                  std::string_view to) {
    cohort::Seating seating(config, false);  // a report that must not wait has set NoWaiting itself
    const bool asks = to == "native" && !config::is_reserved_user(config, user_id);
    if (asks && !config.settings.limit_usage_by_mau) {
        seating.take_unlimited(1);
    } else if (asks) {
        const cohort::Seat seat = seating.take(user_id, pg::to_instant(GetCurrentTimestamp()), false);
        if (seat == cohort::Seat::met_locks)
            throw Error(sqlstate::lock_not_available, "expired members cannot be removed for a user's seat",
                        "Another session has locked the cohort or mau.users, an index or the sequence.",
                        "End the transaction that has locked mau's tables.");
        if (seat == cohort::Seat::full) {
            cohort::remove(config, std::vector<std::string_view>{user_id}, INT64_MAX);
            return seating.done(false);
        }
    }
    const bool moved = move_service_query.write(user_id).count > 0;
    if (moved) {
        seats::add_rows(config, from, -1);
        seats::add_rows(config, to, 1);
    } else if (!misplaced_query.read_latest(user_id).empty()) {
        seating.done(false);
        throw not_written("mau.monthly_active_users");
    }
    seating.done(moved);
}

/// Adds an account, or updates it: the earlier registration time stays, a type or
/// appservice that is given replaces the old one, and the account is active again.
void make_known(const Config& config, const deferred::Call& report) {
    const seats::Announced announced;
    const auto write = [&report](pg::Statement& statement) {
        return statement.write(report.user_id, report.at, report.user_type, report.appservice_id,
                               report.is_guest);
    };
    if (write(register_query).count == 0 && write(register_new_query).count == 0)
        throw not_written("mau.users");
    cache::invalidate(report.user_id);
    const pg::Rows misplaced = misplaced_query.read_latest(report.user_id);
    if (misplaced.empty()) return;
    move_service(config, report.user_id, misplaced.at(0, 0).text(), misplaced.at(0, 1).text());
}

/// Takes the user into the cohort because of a reserved threepid; not support users, not while recording is
/// off. Returns whether the user is a member now.
bool join_reserved(const Config& config, const deferred::Call& report) {
    if (!recording(config.settings)) return false;
    activity::Sighting sighting{report.user_id, *report.at, Platform::unknown};
    activity::clamp_to_now(config, &sighting, 1);
    const seats::Announced announced;
    const pg::Rows joined = join_reserved_query.write(sighting.user_id, sighting.at);
    if (joined.empty()) return false;
    if (joined.at(0, 0).boolean()) {
        seats::add_rows(config, joined.at(0, 1).text(), 1);
        cohort::look_at_limit(config, sighting.at, cohort::AlertCause::joined);
    }
    return true;
}

void add_threepid(const deferred::Call& report) {
    if (add_threepid_query.write(report.medium, report.address, report.user_id).count == 0)
        throw not_written("mau.user_threepids");
}

bool deactivate(const Config& config, std::string_view user_id) {
    const seats::Announced announced;
    if (deactivate_query.write(user_id).count == 0) {
        if (is_active_query.read_latest(user_id).at(0, 0).boolean()) throw not_written("mau.users");
        return false;
    }
    cache::invalidate(user_id);
    pg::delete_all(remove_threepids_query, "mau.user_threepids", user_id);  // as Synapse does
    if (!config.settings.count_deactivated_users) cohort::remove(config, user_id);
    return true;
}

/// Whether another transaction, not done yet, has inserted, changed or deleted the row of a threepid. (A
/// statement does not see what was inserted.)
bool is_in_flight(const Config& config, std::string_view medium, std::string_view address) {
    const Datum keys_of_row[] = {pg::text_datum(medium), pg::text_datum(address)};
    return pg::guard([&] {
        Relation const table = pg::open_plain(config.threepids_table, AccessShareLock);
        Oid const key = pg::compat::primary_key_of(table);
        if (!OidIsValid(key)) {  // dropped by an administrator
            table_close(table, AccessShareLock);
            return true;
        }
        Relation const index = index_open(key, AccessShareLock);
        TupleTableSlot* const slot = table_slot_create(table, nullptr);
        ScanKeyData keys[2];
        for (int i = 0; i < 2; ++i)
            ScanKeyEntryInitialize(&keys[i], 0, static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber,
                                   InvalidOid, index->rd_indcollation[i], F_TEXTEQ, keys_of_row[i]);
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        IndexScanDesc const scan = pg::compat::begin_index_scan(table, index, &dirty, 2);
        index_rescan(scan, keys, 2, nullptr, 0);
        bool found = false;
        while (!found && index_getnext_slot(scan, ForwardScanDirection, slot))
            found = TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax);
        index_endscan(scan);
        ExecDropSingleTupleTableSlot(slot);
        index_close(index, AccessShareLock);
        table_close(table, AccessShareLock);
        return found;
    });
}

/// Whether another transaction, not done yet, has one of the user's rows.
bool is_in_flight(const Config& config, std::string_view user_id) {
    activity::Looker looker(config);
    const activity::UserRows rows = looker.find(user_id);
    looker.close();
    return rows.user.in_flight || rows.member.in_flight;
}

}  // namespace

bool can_carry_out(const Config& config, const deferred::Call& report) {
    const auto writable = [](Oid table) { return pg::try_lock_with_indexes(table, RowExclusiveLock); };
    const bool registers = report.function == deferred::Function::register_user;
    const bool deactivates = report.function == deferred::Function::deactivate_user;
    if ((report.medium || deactivates) && !writable(config.threepids_table)) return false;
    if (registers && !pg::try_table_lock(config.users_sequence, RowExclusiveLock)) return false;
    if ((registers || deactivates) && !(writable(config.users_table) && writable(config.cohort_table) &&
                                        OidIsValid(config.users_index) && OidIsValid(config.cohort_index)))
        return false;
    if (!config::is_latest(config)) return false;
    if (report.medium && is_in_flight(config, *report.medium, *report.address)) return false;
    if (report.medium || deactivates) {
        const auto owner = deactivates ? std::optional(report.user_id) : std::nullopt;
        if (held_threepids_query.write(owner, report.medium, report.address).at(0, 0).integer() > 0)
            return false;
    }
    return !(registers || deactivates) || !is_in_flight(config, report.user_id);
}

bool carry_out(const Config& config, const deferred::Call& report) {
    switch (report.function) {
        case deferred::Function::register_user:
            make_known(config, report);
            if (!report.medium) return false;
            add_threepid(report);
            return config::is_reserved(config, *report.medium, *report.address) &&
                   join_reserved(config, report);
        case deferred::Function::add_threepid:
            add_threepid(report);
            return true;
        case deferred::Function::remove_threepid:
            return pg::delete_all(remove_threepid_query, "mau.user_threepids", report.medium, report.address,
                                  report.user_id) > 0;
        case deferred::Function::deactivate_user:
            return deactivate(config, report.user_id);
        case deferred::Function::record_activity:
            break;
    }
    return false;
}

std::int64_t take_over(const Config& config, const Accounts& accounts) {
    if (accounts.user_ids.empty()) return 0;
    const seats::Announced announced;
    const pg::Rows changed = take_over_query.write(accounts.user_ids, accounts.registered_at,
                                                   accounts.user_types, accounts.appservice_ids,
                                                   accounts.guests, accounts.deactivated, accounts.locked);
    std::vector<std::string_view> ids;
    for (std::uint64_t i = 0; i < changed.count; ++i) {
        if (!changed.at(i, 1).boolean()) throw not_written("mau.users");
        ids.push_back(changed.at(i, 0).text());
        cache::invalidate(ids.back());
    }
    if (ids.empty()) return 0;
    const pg::Rows misplaced = misplaced_among_query.read_latest(ids);
    for (std::uint64_t i = 0; i < misplaced.count; ++i)
        move_service(config, misplaced.at(i, 0).text(), misplaced.at(i, 1).text(), misplaced.at(i, 2).text());
    return static_cast<std::int64_t>(ids.size());
}

std::int64_t take_over_first(const Accounts& accounts) {
    const seats::Announced announced;
    const pg::Rows written = take_over_first_query.write(
        accounts.user_ids, accounts.registered_at, accounts.user_types, accounts.appservice_ids,
        accounts.guests, accounts.deactivated, accounts.locked);
    if (written.count < accounts.user_ids.size()) throw not_written("mau.users");
    return static_cast<std::int64_t>(written.count);
}

bool forget(const Config& config, std::string_view user_id) {
    const seats::Announced announced;
    const bool member = cohort::remove(config, user_id);
    const bool deferred = deferred::forget(user_id);
    pg::delete_all(remove_threepids_query, "mau.user_threepids", user_id);
    pg::delete_all(forget_skipped_query, "mau.source_skipped", user_id);
    return (pg::write_all(forget_query, not_written, "mau.users", user_id) > 0) | member | deferred;
}

}  // namespace mau::registration
