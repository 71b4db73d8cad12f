#include "cohort/leaving.hpp"

#include <algorithm>

#include "pg/heap.hpp"
#include "pg/locks.hpp"
#include "pg/plain.hpp"
#include "seats/seats.hpp"
#include "cache/cache.hpp"

namespace mau::cohort {

namespace {

constexpr std::int64_t kBatch = 10'000;  // rows that one statement removes at most
constexpr std::int64_t kLook = 1'000;    // expired rows that an admission looks at
constexpr std::size_t kLocked = 256;     // users who are locked at once
constexpr Instant kAlways = INT64_MAX;   // a cutoff that every row is before

// Rows are found by their keys, one by one: OFFSET 0 and FOR UPDATE keep the planner from joining the tables.
// A row without one in mau.users is not removed but returned, as user_id. The last column counts the moved
// last sightings. (The deletion is by ctid: a row that changed after the statement began stays.)
#define MAU_LEAVE(lock)                                                                        \
    "WITH victims AS MATERIALIZED ("                                                           \
    "  SELECT m.place, m.user_id, k.user_no FROM unnest($1) v(user_id)"                        \
    "   CROSS JOIN LATERAL (SELECT c.ctid AS place, c.user_id FROM mau.monthly_active_users c" \
    "     WHERE c.user_id = v.user_id AND c.\"timestamp\" < $2"                                \
    "     FOR UPDATE" lock                                                                     \
    ") m"                                                                                      \
    "   LEFT JOIN LATERAL (SELECT u.user_no FROM mau.users u WHERE u.user_id = m.user_id"      \
    "     FOR NO KEY UPDATE" lock                                                              \
    ") k ON true"                                                                              \
    "), gone AS ("                                                                             \
    "  DELETE FROM mau.monthly_active_users m WHERE m.ctid = ANY"                              \
    "   (ARRAY(SELECT v.place FROM victims v WHERE v.user_no IS NOT NULL))"                    \
    "   RETURNING m.user_id, m.\"timestamp\" AS seen, m.service, m.visited"                    \
    "), moved AS ("                                                                            \
    "  UPDATE mau.users u SET last_seen = greatest(u.last_seen,"                               \
    "   CASE WHEN g.seen > 0 THEN g.seen END),"                                                \
    "   visited = greatest(u.visited, g.visited)"                                              \
    "   FROM gone g WHERE u.user_id = g.user_id RETURNING u.user_id"                           \
    ") SELECT g.service, count(*), NULL::text, count(w.user_id)"                               \
    "   FROM gone g LEFT JOIN moved w ON w.user_id = g.user_id GROUP BY 1"                     \
    " UNION ALL SELECT NULL, 0, v.user_id, 0 FROM victims v WHERE v.user_no IS NULL"           \
    "   AND NOT EXISTS (SELECT FROM mau.users u WHERE u.user_id = v.user_id)"
pg::Statement leave_query(MAU_LEAVE(" SKIP LOCKED"), {TEXTARRAYOID, INT8OID});
pg::Statement leave_waiting_query(MAU_LEAVE(""), {TEXTARRAYOID, INT8OID});
#undef MAU_LEAVE

pg::Statement know_query(
    "INSERT INTO mau.users (user_id) SELECT * FROM unnest($1) ON CONFLICT (user_id) DO NOTHING",
    {TEXTARRAYOID});
pg::Statement is_member_query("SELECT FROM mau.monthly_active_users m WHERE m.user_id = $1", {TEXTOID});

// For a cohort without its index on `renewed`.
pg::Statement expired_query(
    "SELECT m.user_id, m.\"timestamp\" FROM mau.monthly_active_users m"
    " WHERE m.\"timestamp\" < $1 AND (NOT $2 OR m.service = 'native')"
    " AND NOT m.user_id = ANY ($3) ORDER BY m.\"timestamp\" LIMIT $4",
    {INT8OID, BOOLOID, TEXTARRAYOID, INT8OID});
pg::Statement count_expired_query(
    "SELECT count(*) FROM mau.monthly_active_users m"
    " WHERE m.\"timestamp\" < $1 AND m.service = 'native'"
    " AND NOT m.user_id = ANY ($2)",
    {INT8OID, TEXTARRAYOID});

/// Which expired rows to walk over, and whether as the caller's statement sees them or as committed now.
struct Range {
    Instant from, cutoff;  // of `renewed`, by which the index finds them
    Services services;
    const std::string_view* reserved;
    std::size_t reserved_count;
    seats::Purpose purpose = seats::Purpose::decision;
};

/// Walks over expired rows in the order of `renewed`, while `each` returns true; returns
/// whether it met rows of the range that have been seen since. Without the planner, which would plan anew for
/// each instant. Inside a guard only.
template <class Each>
bool walk_expired(const Config& config, const Range& range, Each&& each) {
    Snapshot const snapshot = RegisterSnapshot(
        range.purpose == seats::Purpose::statement ? GetActiveSnapshot() : GetLatestSnapshot());
    pg::IndexWalk walk;
    walk.open(config.cohort_table, config.cohort_by_time, "monthly_active_users_renewed");
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(range.from));
    ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(range.cutoff));
    walk.begin(snapshot, keys, 2);
    bool seen_since = false;
    while (TupleTableSlot* const slot = walk.next()) {
        CHECK_FOR_INTERRUPTS();
        if (DatumGetInt64(slot->tts_values[timestamp]) >= range.cutoff) {
            seen_since = true;
            continue;
        }
        if (range.services == Services::native && pg::text_of(slot, service) != "native") continue;
        const std::string_view* const end = range.reserved + range.reserved_count;
        // The list is that of reserved threepids' owners, and short.
        if (std::find(range.reserved, end, pg::text_of(slot, user_id)) != end) continue;
        if (!each(slot)) break;
    }
    walk.end();
    walk.close();
    UnregisterSnapshot(snapshot);
    return seen_since;
}

/// Users whose rows have expired.
struct ExpiredUsers {
    std::vector<std::string_view> user_ids;  // in the memory that is current
    Instant next = INT64_MIN;                // where to go on
    bool seen_since = false;
};

/// Finds at most `most` of them from `from` on.
ExpiredUsers find_expired(const Config& config, Instant from, Instant cutoff, Services services,
                          const std::vector<std::string_view>& reserved, std::int64_t most) {
    ExpiredUsers found;
    if (!OidIsValid(config.cohort_by_time)) {
        const pg::Rows rows = expired_query.read_latest(cutoff, services == Services::native, reserved, most);
        for (std::uint64_t i = 0; i < rows.count; ++i) found.user_ids.push_back(rows.at(i, 0).text());
        return found;
    }
    const Range range{from, cutoff, services, reserved.data(), reserved.size()};
    List* ids = NIL;
    found.seen_since = pg::guard([&] {
        std::int64_t left = most;
        CommandCounterIncrement();  // makes this statement's own changes visible
        return walk_expired(config, range, [&](TupleTableSlot* slot) {
            ids = lappend(ids, DatumGetPointer(pg::make_text(pg::text_of(slot, user_id))));
            found.next = DatumGetInt64(slot->tts_values[renewed]);
            return --left > 0;
        });
    });
    found.user_ids.reserve(static_cast<std::size_t>(list_length(ids)));
    for (int i = 0; i < list_length(ids); ++i) found.user_ids.push_back(pg::view_of(list_nth(ids, i)));
    return found;
}

/// Whether a removal waits: for the user's rows and for locks on the tables; for the tables only, and rows in
/// use stay; or never, and a conflicting lock raises 55P03.
enum class Waits { for_rows, for_tables, never };

/// Makes rows of mau.users for some members that have none: seated, or inserted by hand. Rows that another
/// transaction is inserting are left out, unless the removal waits for rows.
void make_known(const Config& config, const std::string_view* first, const std::string_view* last,
                Waits waits) {
    const bool wait = waits == Waits::for_rows;
    std::vector<std::string_view> locked, unknown;
    pg::KeyedTable users;
    users.open(config.users_table, config.users_index, kUsersIndex);
    for (const std::string_view* id = first; id != last; ++id) {
        if (!wait && !pg::try_lock(pg::LockSpace::user, pg::hash(*id))) continue;
        locked.push_back(*id);
        const pg::Found user = users.find(pg::text_datum(*id));
        if (wait || (!user.exists && !user.in_flight)) unknown.push_back(*id);
    }
    users.close();
    const auto know = [&] { know_query.write(unknown); };
    if (!unknown.empty() && waits == Waits::never &&
        !pg::try_table_lock(config.users_sequence, RowExclusiveLock))
        throw Error(sqlstate::lock_not_available, "the sequence of user numbers is locked");
    if (!unknown.empty()) waits == Waits::for_tables ? (void)pg::attempt(know, pg::is_interference) : know();
    if (wait) return;
    for (const std::string_view id : locked) pg::release_lock(pg::LockSpace::user, pg::hash(id));
}

/// Runs one of the statements above, and updates the counters. Returns how many rows were removed.
std::int64_t leave(const Config& config, Waits waits, const std::vector<std::string_view>& user_ids,
                   Instant cutoff) {
    const seats::Announced announced;
    pg::Statement& statement = waits == Waits::for_rows ? leave_waiting_query : leave_query;
    std::int64_t rows = 0;
    for (int tries = 0; tries < 2; ++tries) {
        const pg::Rows left = statement.write(user_ids, cutoff);
        std::vector<std::string_view> unknown;
        for (std::uint64_t i = 0; i < left.count; ++i)
            if (left.at(i, 3).integer() < left.at(i, 1).integer()) throw not_written("mau.users");
        for (std::uint64_t i = 0; i < left.count; ++i) {
            if (!left.at(i, 2).is_null()) {
                unknown.push_back(left.at(i, 2).text());
                continue;
            }
            seats::add_rows(config, left.at(i, 0).text(), -left.at(i, 1).integer());
            rows += left.at(i, 1).integer();
        }
        for (std::size_t i = 0; i < unknown.size() && tries == 0; i += kLocked)
            make_known(config, unknown.data() + i, unknown.data() + std::min(i + kLocked, unknown.size()),
                       waits);
        if (unknown.empty()) break;
    }
    return rows;
}

/// Whether the statement would not wait for a table or an index. It opens every index of both tables, also
/// those that the changes do not concern.
bool can_leave(const Config& config) {
    return pg::try_lock_with_indexes(config.cohort_table, RowExclusiveLock) &&
           pg::try_lock_with_indexes(config.users_table, RowExclusiveLock);
}

/// Removes expired rows in place, and writes the last sightings into the rows of mau.users in place, in a
/// third of the time that the statement takes. Rows without one in mau.users are left to the statement.
class DirectRemoval {
  public:
    explicit DirectRemoval(const Config& config) : config_(config) {}

    /// Whether the tables have nothing, such as triggers of others, that needs a statement.
    bool is_possible() {
        if (!OidIsValid(config_.cohort_by_time) || IsolationUsesXactSnapshot()) return false;
        const bool possible = pg::guard([&] {
            Relation const cohort = pg::open_plain(config_.cohort_table, RowExclusiveLock);
            Relation const users = pg::open_plain(config_.users_table, RowExclusiveLock);
            const bool can = pg::writable_directly(cohort, config_.on_cohort, ACL_DELETE) &&
                             pg::writable_directly(users, config_.on_users, ACL_UPDATE);
            table_close(users, NoLock);
            table_close(cohort, NoLock);
            return can;
        });
        if (possible) pg::guard([] { PreventCommandIfReadOnly("mau.reap()"); });
        return possible;
    }

    /// Removes at most `most` rows of the range, and updates the counters.
    Expired remove(const Range& range, std::int64_t most) {
        Expired expired;
        std::int64_t natives = 0;
        pg::KeyedTable users;
        users.open(config_.users_table, config_.users_index, kUsersIndex);
        expired.seen_since = pg::guard([&] {
            CommandCounterIncrement();  // makes this statement's own changes visible
            row_ = AllocSetContextCreate(CurrentMemoryContext, "mau row", ALLOCSET_DEFAULT_SIZES);
            Relation const cohort = pg::open_plain(config_.cohort_table, RowExclusiveLock);
            Snapshot const snapshot = RegisterSnapshot(GetLatestSnapshot());
            const bool seen_since = walk_expired(config_, range, [&](TupleTableSlot* slot) {
                if (!move_last_seen(users, slot)) return true;
                if (!pg::delete_row(cohort, slot, GetCurrentCommandId(true), snapshot)) return true;
                if (pg::text_of(slot, service) == "native") ++natives;
                return ++expired.rows < most;
            });
            UnregisterSnapshot(snapshot);
            table_close(cohort, NoLock);
            MemoryContextDelete(row_);
            CommandCounterIncrement();
            return seen_since;
        });
        users.close();
        seats::add_rows(config_, "native", -natives);
        return expired;
    }

  private:
    /// Returns false where another transaction holds the row of mau.users, or there is none. Inside a guard
    /// only.
    bool move_last_seen(pg::KeyedTable& users, TupleTableSlot* slot) {
        namespace column = config::users;
        MemoryContextReset(row_);
        MemoryContext const outer = MemoryContextSwitchTo(row_);
        const pg::Found user = users.find(slot->tts_values[user_id]);
        MemoryContextSwitchTo(outer);
        if (!user.exists || user.in_flight) return false;
        const Instant seen = DatumGetInt64(slot->tts_values[timestamp]);
        const int visited = DatumGetInt32(slot->tts_values[cohort::visited]);
        pg::Change changes[2];
        int count = 0;
        if (seen > 0 && (user.is_null(column::last_seen) || user.integer(column::last_seen) < seen))
            changes[count++] = {column::last_seen, Int64GetDatum(seen)};
        if (user.int4(column::visited) < visited)
            changes[count++] = {column::visited, Int32GetDatum(visited)};
        return count == 0 || users.update(changes, count);
    }

    const Config& config_;
    MemoryContext row_ = nullptr;  // one user's values
};

}  // namespace

std::int64_t count_expired_natives(const Config& config, Instant at, seats::Purpose purpose) {
    const bool of_statement = purpose == seats::Purpose::statement;
    const std::vector<std::string_view> reserved =
        of_statement ? config::reserved_users_of_statement() : config::registered_reserved_users(config);
    const Instant cutoff = at - kWindow;
    if (!OidIsValid(config.cohort_by_time)) {
        const pg::Rows rows = of_statement ? count_expired_query.read(cutoff, reserved)
                                           : count_expired_query.read_latest(cutoff, reserved);
        return rows.at(0, 0).integer();
    }
    const Range range{INT64_MIN, cutoff, Services::native, reserved.data(), reserved.size(), purpose};
    return pg::guard([&] {
        std::int64_t rows = 0;
        walk_expired(config, range, [&](TupleTableSlot*) { return ++rows > 0; });
        return rows;
    });
}

Expired remove_expired(const Config& config, Instant cutoff, const std::vector<std::string_view>& reserved,
                       std::int64_t max_rows) {
    Expired expired;
    pg::Scratch scratch;
    Instant from = INT64_MIN;
    DirectRemoval direct(config);
    if (direct.is_possible()) {
        const Range range{INT64_MIN, cutoff, Services::all, reserved.data(), reserved.size()};
        expired = direct.remove(range, max_rows);
    }
    for (bool more = true; more && expired.rows < max_rows;) {
        scratch.run([&] {
            const ExpiredUsers found = find_expired(config, from, cutoff, Services::all, reserved,
                                                    std::min(kBatch, max_rows - expired.rows));
            expired.seen_since = expired.seen_since || found.seen_since;
            const std::int64_t left = remove(config, found.user_ids, cutoff);
            expired.rows += left;
            more = left > 0 || found.next > from;
            from = found.next;
        });
        scratch.reset();
    }
    scratch.close();
    return expired;
}

std::optional<std::int64_t> try_remove(const Config& config, const std::vector<std::string_view>& user_ids,
                                       Instant cutoff, bool only_ours) {
    if (user_ids.empty()) return 0;
    if (!can_leave(config)) return std::nullopt;
    std::int64_t rows = 0;
    const auto trouble = pg::attempt(
        [&] {
            std::optional<pg::NoWaiting> no_waiting;
            if (only_ours) no_waiting.emplace();
            rows = leave(config, Waits::never, user_ids, cutoff);
        },
        pg::is_deferrable, only_ours ? pg::Keeps::nothing : pg::Keeps::memory);
    return trouble ? std::nullopt : std::optional(rows);
}

namespace {

/// Removes rows one by one, so that no row is locked that is not needed, until `freed` has `count` seats.
void free_one_by_one(const Config& config, const std::vector<std::string_view>& user_ids, Instant cutoff,
                     std::int64_t count, bool only_ours, Freed& freed) {
    if (!user_ids.empty() && !can_leave(config)) {
        freed.met_locks = true;
        return;
    }
    for (std::size_t i = 0; i < user_ids.size() && freed.seats < count; ++i) {
        // A row whose user is being recorded now, perhaps by this very statement, is in use.
        const std::uint64_t lock = pg::hash(user_ids[i]);
        if (!pg::try_new_lock(pg::LockSpace::user, lock)) continue;
        const auto left = try_remove(config, {user_ids[i]}, cutoff, only_ours);
        pg::release_lock(pg::LockSpace::user, lock);
        if (left)
            freed.seats += *left;
        else
            freed.met_locks = true;
    }
}

}  // namespace

Freed free_seats(const Config& config, Instant cutoff, std::int64_t count, bool only_ours) {
    Freed freed;
    if (XactReadOnly) return freed;
    const std::vector<std::string_view> reserved = config::registered_reserved_users(config);
    const auto find = [&](std::int64_t most) {
        return find_expired(config, INT64_MIN, cutoff, Services::native, reserved, most).user_ids;
    };
    if (count > kLook) {  // the maximum was lowered, or switched on
        const auto left = try_remove(config, find(kBatch), cutoff, only_ours);
        return {left.value_or(0), !left};
    }
    free_one_by_one(config, find(count), cutoff, count, only_ours, freed);
    if (freed.seats < count) free_one_by_one(config, find(kLook), cutoff, count, only_ours, freed);
    return freed;
}

std::int64_t remove(const Config& config, const std::vector<std::string_view>& user_ids, Instant cutoff) {
    if (user_ids.empty()) return 0;
    std::int64_t rows = 0;
    const auto leave_now = [&] { rows = leave(config, Waits::for_tables, user_ids, cutoff); };
    if (!IsolationUsesXactSnapshot())
        leave_now();
    else if (pg::attempt(leave_now, pg::is_concurrency))
        rows = 0;
    return rows;
}

bool remove(const Config& config, std::string_view user_id) {
    cache::invalidate(user_id);
    bool left = false;
    // A row that changed while the statement waited stays, so it tries again.
    for (int tries = 0; !is_member_query.read_latest(user_id).empty(); ++tries) {
        if (tries == 10) throw not_deleted("mau.monthly_active_users");
        left = leave(config, Waits::for_rows, {user_id}, kAlways) > 0 || left;
    }
    return left;
}

}  // namespace mau::cohort
