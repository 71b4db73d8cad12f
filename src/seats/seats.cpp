#include "seats/seats.hpp"

#include <algorithm>
#include <cstdlib>

#include "cache/cache.hpp"
#include "pg/locks.hpp"
#include "pg/plain.hpp"
#include "pg/shmem.hpp"
#include "pg/values.hpp"
#include "seats/tally.hpp"

namespace mau::seats {

bool are_known(const Config& config, const Counters* mine) {
    return mine->known && mine->cohort == config.cohort_table && mine->version == config.cohort_version;
}

namespace {

/// Whether the counters equal what a snapshot shows: every counted transaction is visible in it, and no
/// holder that has ended is missing. With the lock held, inside a guard.
bool agrees(const Counters* mine, Snapshot snapshot) {
    if (TransactionIdIsNormal(mine->newest)) {
        if (!TransactionIdPrecedes(mine->newest, snapshot->xmax)) return false;
        // The snapshot does not see transactions that were in progress, in any database. One that has ended
        // since may have been counted; one that is still in progress has not.
        for (std::uint32_t i = 0; i < snapshot->xcnt; ++i) {
            TransactionId const xid = snapshot->xip[i];
            if (!TransactionIdFollows(xid, mine->newest) && !TransactionIdIsInProgress(xid)) return false;
        }
    }
    int const number = number_of(mine);
    for (int i = 0; i < holder_count(); ++i) {
        const Holder& holder = holders()[i];
        if (holder.database == number && !XidInMVCCSnapshot(holder.xid, snapshot)) return false;
    }
    return true;
}

/// Counts the native rows, in half the time that a statement takes. Inside a guard only.
std::int64_t count_rows(const Config& config, Snapshot snapshot) {
    AclResult const rights = pg_class_aclcheck(config.cohort_table, GetUserId(), ACL_SELECT);
    if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, get_rel_name(config.cohort_table));
    Relation const table = pg::open_plain(config.cohort_table, AccessShareLock);
    TupleTableSlot* const slot = table_slot_create(table, nullptr);
    TableScanDesc const scan = table_beginscan(table, snapshot, 0, nullptr);
    std::int64_t rows = 0;
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        bool null = false;
        if (pg::view_of(DatumGetTextPP(slot_getattr(slot, cohort::service + 1, &null))) == "native") ++rows;
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    table_close(table, AccessShareLock);
    return rows;
}

/// Counts the table and sets the counters. Returns by how many rows they were wrong; 0 if they were unknown,
/// or if a transaction has committed rows and not updated the counters yet.
std::int64_t recount(const Config& config, Counters* mine) {
    int const number = number_of(mine);
    bool on_the_way = false;  // rows that the snapshot has and the counters do not have yet
    Snapshot const snapshot = pg::guard([&]() -> Snapshot {
        LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
        Snapshot const now = RegisterSnapshot(GetLatestSnapshot());
        for (int i = 0; i < holder_count(); ++i) {
            Holder& holder = holders()[i];
            if (holder.database == number && &holder != &my_holder() && !holder.settled &&
                !XidInMVCCSnapshot(holder.xid, now))
                holder.settled = on_the_way = true;
        }
        // Transactions that commit from here on add their rows to what the snapshot counts.
        mine->cohort = config.cohort_table;
        mine->version = config.cohort_version;
        TransactionId newest = now->xmax;
        TransactionIdRetreat(newest);
        note_newest(mine, newest);
        return now;
    });
    const std::int64_t before = mine->rows;
    const bool was_known = mine->known;
    const std::uint64_t forgotten = mine->forgotten;
    mine->known = false;
    mine->rows = 0;
    LWLockRelease(&mine->lock);

    std::int64_t now = pg::guard([&] {
        const std::int64_t counted = count_rows(config, snapshot);
        UnregisterSnapshot(snapshot);
        return counted;
    });
    for (const Level& level : tally) now -= level.rows;  // ours are added at commit
    std::int64_t off = std::abs(now - before);
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->rows += now;
    mine->known = mine->unsettled_dml == 0 && mine->forgotten == forgotten;
    ++mine->recounts;
    if (!was_known || !mine->known || on_the_way) off = 0;
    if (off > 0) ++mine->mended;
    LWLockRelease(&mine->lock);
    return off;
}

/// Takes the locks of a recount: of the table first and only if it is free, because others wait for the
/// second lock. Returns false where DDL of another session holds the table, or waits for it.
bool lock_recount(const Config& config) {
    if (!pg::try_table_lock(config.cohort_table, AccessShareLock)) return false;
    pg::take_lock(pg::LockSpace::seats, 1);  // one recount at a time
    return true;
}

void unlock_recount(const Config& config) {
    pg::release_lock(pg::LockSpace::seats, 1);
    pg::guard([&] { UnlockRelationOid(config.cohort_table, AccessShareLock); });
}

/// Makes sure that the counters are known; returns false where they cannot be counted now.
bool ensure_known(const Config& config, Counters* mine) {
    if (has_unannounced() || !config.cohort_is_watched) return false;
    if (IsInParallelMode()) return are_known(config, mine);
    for (int tries = 0; tries < 3; ++tries) {
        if (are_known(config, mine)) return true;
        if (mine->unsettled_dml > 0) return false;
        if (!lock_recount(config)) return false;
        if (!are_known(config, mine)) recount(config, mine);
        unlock_recount(config);
    }
    return are_known(config, mine);
}

}  // namespace

bool enabled() {
    return counters() != nullptr;
}

Take take(const Config& config, std::int64_t* missing) {
    Counters* mine = counters();
    if (!mine || !ensure_known(config, mine)) return Take::unknown;
    tally.reserve(tally.size() + 1);  // so that noting a taken seat cannot fail
    const std::int64_t own = own_change();
    const bool has_spare = has_spare_seat();
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    const bool reliable = are_known(config, mine) && mine->unsettled_dml == 0;
    *missing = mine->rows + mine->in_flight + own - config.settings.max_mau_value + 1;
    const bool taken = reliable && *missing <= 0;
    if (taken && !has_spare) ++mine->in_flight;
    LWLockRelease(&mine->lock);
    if (!taken) return reliable ? Take::full : Take::unknown;
    if (has_spare)
        --level().spare;
    else
        ++level().seats;
    ++level().pending;
    hold(mine, config.cohort_table);
    return Take::taken;
}

void take_unconditionally(const Config& config, std::int64_t seats) {
    Counters* mine = counters();
    if (!mine) return;
    hold(mine, config.cohort_table);
    level().seats += seats;
    level().pending += seats;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->in_flight += seats;
    LWLockRelease(&mine->lock);
}

void used(std::int64_t seats) {
    if (enabled() && seats > 0) level().pending -= seats;
}

void give_back(std::int64_t seats) {
    Counters* mine = counters();
    if (!mine || seats == 0) return;
    const std::int64_t in_flight = std::min(seats, level().seats);
    level().seats -= in_flight;
    level().spare += seats - in_flight;
    level().pending -= seats;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->in_flight -= in_flight;
    LWLockRelease(&mine->lock);
}

std::int64_t in_flight_elsewhere() {
    Counters* mine = counters();
    std::int64_t seats = mine ? mine->in_flight : 0;
    for (const Level& level : tally) seats -= level.seats;
    return seats;
}

void add_rows(const Config& config, std::string_view service, std::int64_t rows) {
    Counters* mine = counters();
    if (!mine || rows == 0 || service != "native") return;
    hold(mine, config.cohort_table);
    level().rows += rows;
    if (rows < 0)
        level().spare -= rows;
    else
        level().joined += rows;
}

void notice_dml(Oid cohort) {
    if (is_announced()) return;
    Counters* mine = counters();
    if (!mine) return;
    hold(mine, cohort);
    level().unannounced = true;
    cache::invalidate_all();
}

std::optional<std::int64_t> rows(const Config& config, Purpose purpose) {
    Counters* mine = counters();
    if (!mine || (purpose == Purpose::statement && IsolationUsesXactSnapshot()) || RecoveryInProgress() ||
        !ensure_known(config, mine))
        return std::nullopt;
    if (!tally.empty())
        return std::nullopt;  // only the statement's snapshot knows which of our own rows it sees
    bool known = false;
    std::int64_t rows = 0;
    pg::guard([&] {
        LWLockAcquire(&mine->lock, LW_SHARED);
        known =
            are_known(config, mine) && (purpose == Purpose::decision || agrees(mine, GetActiveSnapshot()));
        rows = mine->rows;
        LWLockRelease(&mine->lock);
    });
    return known ? std::optional(rows) : std::nullopt;
}

std::int64_t verify(const Config& config) {
    Counters* mine = counters();
    if (!mine || !are_known(config, mine) || has_unannounced() || !lock_recount(config)) return 0;
    const std::int64_t off = recount(config, mine);
    unlock_recount(config);
    if (off > 0)
        pg::guard([&] {
            ereport(LOG, (errmsg("mau corrected its counters by %lld rows", static_cast<long long>(off))));
        });
    return off;
}

void count_ahead(std::int64_t sightings) {
    Counters* mine = counters();
    if (!mine) return;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->ahead += sightings;
    LWLockRelease(&mine->lock);
}

void count_lost(std::int64_t calls) {
    Counters* mine = counters();
    if (!mine) return;
    const TimestampTz now = GetCurrentTimestamp();
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->lost += calls;
    mine->lost_at = now;
    LWLockRelease(&mine->lock);
}

void count_blocked(bool disabled) {
    Counters* mine = counters();
    if (!mine) return;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    ++(disabled ? mine->blocked_disabled : mine->blocked_full);
    LWLockRelease(&mine->lock);
}

std::optional<Totals> totals() {
    Counters* mine = counters();
    if (!mine) return std::nullopt;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_SHARED); });
    const Totals totals{static_cast<std::int64_t>(mine->recounts),
                        static_cast<std::int64_t>(mine->mended),
                        mine->ahead,
                        mine->lost,
                        mine->blocked_full,
                        mine->blocked_disabled};
    LWLockRelease(&mine->lock);
    return totals;
}

std::string describe() {
    Counters* mine = counters();
    if (!preloaded()) return "by lock and count (mau is not in shared_preload_libraries)";
    if (!mine)
        return "by lock and count (more than " + std::to_string(pg::kMaxDatabases) +
               " databases have used mau since the server started)";
    const auto noted = [](std::int64_t number, const char* what) {
        return number > 0 ? "; " + std::to_string(number) + what : std::string();
    };
    const std::string notes =
        noted(mine->ahead, " sightings ahead of the clock") + noted(mine->lost, " calls lost");
    if (!mine->known) return "counters to be taken from the table at the next admission" + notes;
    return std::to_string(mine->rows) + " native rows, " + std::to_string(mine->in_flight) +
           " admissions in flight; counted " + std::to_string(mine->recounts) + " times, corrected " +
           std::to_string(mine->mended) + notes;
}

}  // namespace mau::seats

namespace mau {
namespace {

Datum cohort_changed(FunctionCallInfo fcinfo) {
    seats::notice_dml(RelationGetRelid(pg::trigger_of(fcinfo)->tg_relation));
    return PointerGetDatum(nullptr);
}

Datum users_changed(FunctionCallInfo fcinfo) {
    pg::trigger_of(fcinfo);
    if (!seats::is_announced()) cache::invalidate_all();
    return PointerGetDatum(nullptr);
}

Datum describe_seats(FunctionCallInfo) {
    return pg::text_datum(seats::describe());
}

Datum lost_calls(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo);
    seats::Counters* mine = seats::counters();
    std::int64_t calls = 0;
    TimestampTz last_at = 0;
    if (mine) {
        pg::guard([&] { LWLockAcquire(&mine->lock, LW_SHARED); });
        calls = mine->lost;
        last_at = mine->lost_at;
        LWLockRelease(&mine->lock);
    }
    result.add({calls, calls > 0 ? pg::Param::of(TimestampTzGetDatum(last_at)) : pg::Param()});
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_cohort_changed, cohort_changed);
MAU_FUNCTION(mau_users_changed, users_changed);
MAU_FUNCTION(mau_describe_seats, describe_seats);
MAU_FUNCTION(mau_lost_calls, lost_calls);

}  // namespace mau
