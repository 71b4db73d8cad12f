#include "seats.hpp"

#include <algorithm>
#include <cstdlib>

#include "pg/shmem.hpp"
#include "pg/values.hpp"
#include "seen.hpp"

namespace mau::seats {

namespace {

constexpr int kServices = 16;
constexpr int kNameLength = 64;

struct ServiceRow {
    char name[kNameLength];
    std::int64_t rows;
};

/// The counters of one database; everything under `lock`.
struct Counters {
    LWLock lock;
    Oid cohort;               // whose rows these are: another table after DROP and CREATE EXTENSION
    bool known;               // the rows were taken from the table and kept up to date since
    TransactionId newest;     // every transaction that `rows` tells of is this one or an earlier one
    int unsettled_dml;        // transactions between the end of untold DML and its being visible or gone
    std::uint64_t forgotten;  // how often `known` was taken back: a recount that was under way does not stand
    std::int64_t in_flight;   // seats taken by transactions that are not done
    std::uint64_t changes;
    std::uint64_t recounts, mended;
    bool all_services;  // false: some found no room; native always does
    int services;
    ServiceRow service[kServices];
};

/// What one backend's transaction has in the air, for the recount.
struct Holder {
    int database;       // number + 1; 0: nothing
    TransactionId xid;  // top level
    bool settled;       // a recount has counted its rows already
};

struct Shared {
    Counters counters[pg::kMaxDatabases];
    Holder holders[FLEXIBLE_ARRAY_MEMBER];
};

int holder_count() {
    return MaxBackends + NUM_AUXILIARY_PROCS;
}

pg::SharedPiece piece(
    "mau seats",
    [] { return offsetof(Shared, holders) + sizeof(Holder) * static_cast<std::size_t>(holder_count()); },
    [](void* memory) {
        auto* shared = static_cast<Shared*>(memory);
        int const tranche = LWLockNewTrancheId();
        for (Counters& counters : shared->counters) LWLockInitialize(&counters.lock, tranche);
    });

// --- The tally: what this transaction has in the air
// ------------------------------------------------------------

struct Delta {
    std::string service;
    std::int64_t rows;
};

struct Level {
    int nest;
    std::int64_t seats = 0;
    std::int64_t pending = 0;  // of these, taken for rows that are not told yet
    std::int64_t returns = 0;  // expired rows that it brings back
    bool untold = false;       // DML on the cohort that nobody told about
    std::vector<Delta> deltas;
};

std::vector<Level> tally;  // innermost subtransaction last; empty in most transactions
Oid tally_cohort = InvalidOid;
int told_about = 0;
bool untold_announced = false;  // between pre-commit and the end

Counters* counters() {
    auto* shared = piece.get<Shared>();
    int const number = shared ? pg::database_number() : -1;
    return number < 0 ? nullptr : &shared->counters[number];
}

Holder& my_holder() {
    return piece.get<Shared>()->holders[pg::compat::proc_number()];
}

Level& level() {
    int const nest = GetCurrentTransactionNestLevel();
    if (tally.empty() || tally.back().nest < nest) tally.push_back(Level{nest, 0, 0, 0, false, {}});
    return tally.back();
}

void add_delta(std::vector<Delta>& deltas, std::string_view service, std::int64_t rows) {
    for (Delta& delta : deltas)
        if (delta.service == service) {
            delta.rows += rows;
            return;
        }
    deltas.push_back({std::string(service), rows});
}

/// Begins a tally: the holder says to a recount whose rows and seats these are.
void hold(const Counters* mine, Oid cohort) {
    Holder& holder = my_holder();
    if (holder.database != 0) {
        // DROP and CREATE EXTENSION in this very transaction: what was told is of a table that is gone.
        if (cohort != tally_cohort) tally.front().untold = true;
        tally_cohort = cohort;
        return;
    }
    holder.xid = pg::guard([] { return GetTopTransactionId(); });
    holder.settled = false;
    tally_cohort = cohort;
    level();  // the end of the transaction finds something to end
    pg_write_barrier();
    holder.database = static_cast<int>(mine - piece.get<Shared>()->counters) + 1;
}

ServiceRow* find_service(Counters* mine, std::string_view name) {
    for (int i = 0; i < mine->services; ++i)
        if (name == mine->service[i].name) return &mine->service[i];
    if (mine->services == kServices || name.size() >= kNameLength) return nullptr;
    ServiceRow& made = mine->service[mine->services++];
    std::memcpy(made.name, name.data(), name.size());
    made.name[name.size()] = '\0';
    made.rows = 0;
    return &made;
}

/// Empties the counters but for natives, who come first and so always have a place.
void clear(Counters* mine) {
    mine->services = 0;
    mine->all_services = true;
    find_service(mine, "native");
}

std::int64_t native_rows(const Counters* mine) {
    return mine->services > 0 ? mine->service[0].rows : 0;
}

/// Forgets the counters: the next who needs them takes them from the table.
void forget(Counters* mine) {
    mine->known = false;
    ++mine->forgotten;
    ++mine->changes;
}

/// Notes that `rows` tells of a transaction. Later ones may have ended before it.
void note_newest(Counters* mine, TransactionId xid) {
    if (!TransactionIdIsNormal(mine->newest) || TransactionIdFollows(xid, mine->newest)) mine->newest = xid;
}

/// Whether the rows are those that a snapshot shows: it sees all that they tell of, and nothing that they are
/// still to be told of. With the lock held, inside a guard.
bool agrees(const Counters* mine, Snapshot snapshot) {
    auto* shared = piece.get<Shared>();
    if (TransactionIdIsNormal(mine->newest) && !TransactionIdPrecedes(mine->newest, snapshot->xmin))
        return false;
    int const number = static_cast<int>(mine - shared->counters) + 1;
    for (int i = 0; i < holder_count(); ++i) {
        const volatile Holder& holder = shared->holders[i];
        if (holder.database != number) continue;
        pg_read_barrier();
        if (!XidInMVCCSnapshot(holder.xid, snapshot)) return false;
    }
    return true;
}

/// Whether this transaction has DML that nobody told about: by what it sees itself, nobody may count for the
/// others.
bool has_untold() {
    return std::any_of(tally.begin(), tally.end(), [](const Level& level) { return level.untold; });
}

// --- The end of transactions. No error may leave these: they run when there is no way back.
// -----------------

void end_transaction(bool committed) {
    auto* shared = piece.get<Shared>();
    if (tally.empty() || !shared) return;
    Counters* mine = counters();
    Holder& holder = my_holder();
    LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
    bool untold = false, returns = false, fewer = false;
    for (const Level& level : tally) {
        mine->in_flight -= level.seats;
        untold |= level.untold;
        if (!committed) continue;
        if (!level.deltas.empty()) note_newest(mine, holder.xid);
        returns |= level.returns > 0;
        for (const Delta& delta : level.deltas) {
            fewer |= delta.rows < 0;
            if (mine->cohort != tally_cohort || holder.settled) continue;
            if (ServiceRow* row = find_service(mine, delta.service))
                row->rows += delta.rows;
            else
                mine->all_services = false;
        }
    }
    if (mine->in_flight < 0) mine->in_flight = 0;
    if (untold) forget(mine);
    if (untold_announced) --mine->unsettled_dml;
    if (committed && (returns || fewer)) ++mine->changes;
    holder.database = 0;
    LWLockRelease(&mine->lock);
    tally.clear();
    untold_announced = false;
    told_about = 0;
}

/// Before untold DML becomes visible, admissions stop relying on the counters.
void announce_untold() {
    if (!has_untold()) return;
    Counters* mine = counters();
    LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
    ++mine->unsettled_dml;
    untold_announced = true;
    LWLockRelease(&mine->lock);
}

void on_transaction(XactEvent event, void*) {
    if (tally.empty()) {
        told_about = 0;
        return;
    }
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PARALLEL_PRE_COMMIT:
            announce_untold();
            break;
        case XACT_EVENT_PRE_PREPARE:
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("cannot PREPARE a transaction that has written monthly active users"),
                            errhint("Commit the transaction, or call mau's functions in one of its own.")));
            break;
        case XACT_EVENT_COMMIT:
        case XACT_EVENT_PARALLEL_COMMIT:
            end_transaction(true);
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PARALLEL_ABORT:
        case XACT_EVENT_PREPARE:
            end_transaction(false);
            break;
    }
}

void on_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB) return;
    int const nest = GetCurrentTransactionNestLevel();
    while (!tally.empty() && tally.back().nest >= nest) {
        Level ended = std::move(tally.back());
        tally.pop_back();
        if (event == SUBXACT_EVENT_ABORT_SUB) {
            if (ended.seats > 0) {
                Counters* mine = counters();
                LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
                mine->in_flight -= ended.seats;
                LWLockRelease(&mine->lock);
            }
            if (tally.empty()) {  // the end of the transaction still has to clear the holder
                tally.push_back(Level{1, 0, 0, 0, ended.untold, {}});
                break;
            }
            continue;
        }
        if (tally.empty() || tally.back().nest < nest - 1) {
            ended.nest = nest - 1;
            tally.push_back(std::move(ended));
            break;
        }
        Level& outer = tally.back();
        outer.seats += ended.seats;
        outer.pending += ended.pending;
        outer.returns += ended.returns;
        outer.untold |= ended.untold;
        for (const Delta& delta : ended.deltas) add_delta(outer.deltas, delta.service, delta.rows);
    }
}

// --- Recount
// ----------------------------------------------------------------------------------------------------

pg::Statement expired_query(
    "SELECT m.service, pg_catalog.count(*) FROM mau.monthly_active_users m"
    " WHERE m.renewed OPERATOR(pg_catalog.<) $1 AND m.\"timestamp\" OPERATOR(pg_catalog.<) $1"
    " AND NOT m.user_id OPERATOR(pg_catalog.=) ANY ($2) GROUP BY 1",
    {INT8OID, TEXTARRAYOID});

/// Columns of the cohort, from 1 on.
enum { kUserId = 1, kTimestamp = 2, kService = 3 };

/// Rows by service, as a look at the table finds them; natives first.
struct Found {
    int services;
    bool all;  // false: some services found no room
    ServiceRow service[kServices];
};

void clear(Found& found) {
    std::memset(&found, 0, sizeof found);
    std::memcpy(found.service[0].name, "native", sizeof "native");
    found.services = 1;
    found.all = true;
}

/// Adds one row of a service to what was found.
void add_row(Found& found, std::string_view service) {
    int i = 0;
    while (i < found.services && service != found.service[i].name) ++i;
    if (i == kServices || service.size() >= kNameLength) {
        found.all = false;
        return;
    }
    if (i == found.services) {
        std::memcpy(found.service[i].name, service.data(), service.size());
        ++found.services;
    }
    ++found.service[i].rows;
}

std::string_view text_of(TupleTableSlot* slot, AttrNumber column) {
    bool null = false;
    const auto* value = DatumGetTextPP(slot_getattr(slot, column, &null));
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

/// Counts all rows by service, in half the time that a statement takes. Inside a guard only.
Found count_rows(const World& world, Snapshot snapshot) {
    AclResult const rights = pg_class_aclcheck(world.cohort_table, GetUserId(), ACL_SELECT);
    if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, get_rel_name(world.cohort_table));
    Relation const table = table_open(world.cohort_table, AccessShareLock);
    TupleTableSlot* const slot = table_slot_create(table, nullptr);
    TableScanDesc const scan = table_beginscan(table, snapshot, 0, nullptr);
    Found found;
    clear(found);
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        add_row(found, text_of(slot, kService));
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    table_close(table, AccessShareLock);
    return found;
}

/// Counts by the index on `renewed`, which is never after "timestamp", without the planner, who would be
/// asked anew for each instant.
Found count_expired(const World& world, Instant cutoff, const std::string_view* reserved,
                    std::size_t reserved_count, For purpose) {
    AclResult const rights = pg_class_aclcheck(world.cohort_table, GetUserId(), ACL_SELECT);
    if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, get_rel_name(world.cohort_table));
    Snapshot const snapshot =
        RegisterSnapshot(purpose == For::statement ? GetActiveSnapshot() : GetLatestSnapshot());
    Relation const table = table_open(world.cohort_table, AccessShareLock);
    Relation const index = index_open(world.cohort_by_time, AccessShareLock);
    TupleTableSlot* const slot = table_slot_create(table, nullptr);
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(cutoff));
    IndexScanDesc const scan = pg::compat::begin_index_scan(table, index, snapshot, 1);
    index_rescan(scan, &key, 1, nullptr, 0);
    Found found;
    clear(found);
    while (index_getnext_slot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        bool no_time = false;
        if (DatumGetInt64(slot_getattr(slot, kTimestamp, &no_time)) >= cutoff) continue;  // seen since
        const std::string_view user = text_of(slot, kUserId), service = text_of(slot, kService);
        bool held = false;
        for (std::size_t i = 0; i < reserved_count && !held; ++i) held = reserved[i] == user;
        if (held) continue;
        add_row(found, service);
    }
    index_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    index_close(index, AccessShareLock);
    table_close(table, AccessShareLock);
    UnregisterSnapshot(snapshot);
    return found;
}

/// The expired rows that sit in seats.
std::int64_t expired_natives(const World& world, Instant at) {
    for (const ServiceRows& one : expired(world, at, For::decision))
        if (one.service == "native") return one.rows;
    return 0;
}

/// Takes the counters from the table. Answers by how many rows they were off, if they were known and told of
/// all that the table has.
std::int64_t recount(const World& world, Counters* mine) {
    auto* shared = piece.get<Shared>();
    int const number = static_cast<int>(mine - shared->counters) + 1;
    bool on_the_way = false;  // rows that the snapshot has and the counters were still to be told of
    Snapshot const snapshot = pg::guard([&]() -> Snapshot {
        LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
        Snapshot const now = RegisterSnapshot(GetLatestSnapshot());
        for (int i = 0; i < holder_count(); ++i) {
            Holder& holder = shared->holders[i];
            if (holder.database == number && &holder != &my_holder() && !holder.settled &&
                !XidInMVCCSnapshot(holder.xid, now))
                holder.settled = on_the_way = true;
        }
        // What commits from here on comes on top of what the snapshot counts.
        mine->cohort = world.cohort_table;
        TransactionId newest = now->xmax;
        TransactionIdRetreat(newest);
        note_newest(mine, newest);
        return now;
    });
    std::vector<Delta> before;
    for (int i = 0; i < mine->services; ++i) before.push_back({mine->service[i].name, mine->service[i].rows});
    const bool was_known = mine->known;
    const std::uint64_t forgotten = mine->forgotten;
    mine->known = false;
    clear(mine);
    LWLockRelease(&mine->lock);

    const Found found = pg::guard([&] { return count_rows(world, snapshot); });
    std::vector<Delta> now;
    for (int i = 0; i < found.services; ++i) now.push_back({found.service[i].name, found.service[i].rows});
    for (const Level& level : tally)  // our own rows are in the snapshot, and come at commit
        for (const Delta& delta : level.deltas) add_delta(now, delta.service, -delta.rows);
    pg::guard([&] { UnregisterSnapshot(snapshot); });

    std::int64_t off = 0;
    for (const Delta& delta : now) {
        std::int64_t had = 0;
        for (const Delta& old : before)
            if (old.service == delta.service) had = old.rows;
        off += std::abs(delta.rows - had);
    }
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    if (!found.all) mine->all_services = false;
    for (const Delta& delta : now) {
        ServiceRow* row = find_service(mine, delta.service);
        if (row)
            row->rows += delta.rows;
        else
            mine->all_services = false;
    }
    mine->known = mine->unsettled_dml == 0 && mine->forgotten == forgotten;
    ++mine->changes;
    ++mine->recounts;
    if (!was_known || !mine->known || on_the_way) off = 0;
    if (off > 0) ++mine->mended;
    LWLockRelease(&mine->lock);
    return off;
}

/// Makes sure that the counters are known; false where they cannot be now.
bool ensure_known(const World& world, Counters* mine) {
    if (has_untold()) return false;
    if (IsInParallelMode()) return mine->known && mine->cohort == world.cohort_table;
    for (int tries = 0; tries < 3; ++tries) {
        if (mine->known && mine->cohort == world.cohort_table) return true;
        if (mine->unsettled_dml > 0) return false;
        pg::take_lock(pg::LockSpace::seats, 1);  // one recount at a time
        if (!mine->known || mine->cohort != world.cohort_table) recount(world, mine);
        pg::release_lock(pg::LockSpace::seats, 1);
    }
    return mine->known && mine->cohort == world.cohort_table;
}

/// By how much this transaction's own doing changes the sum, for itself: its rows, told or taken back, in
/// place of the seats that it took for them. Others go by the seats until it is done.
std::int64_t own_doing() {
    std::int64_t own = 0;
    for (const Level& level : tally) {
        own += level.pending - level.seats;
        for (const Delta& delta : level.deltas)
            if (delta.service == "native") own += delta.rows;
    }
    return own;
}

/// Takes a seat if the sum leaves room, with the lock held.
bool take_if_room(const World& world, Counters* mine, std::int64_t own, std::int64_t expired) {
    if (native_rows(mine) + mine->in_flight + own - expired >= world.settings.max_mau_value) return false;
    ++mine->in_flight;
    return true;
}

}  // namespace

void init() {
    pg::guard([] {
        RegisterXactCallback(on_transaction, nullptr);
        RegisterSubXactCallback(on_subtransaction, nullptr);
    });
    tally.reserve(8);
}

bool enabled() {
    return counters() != nullptr;
}

Take take(const World& world, Instant at) {
    Counters* mine = counters();
    if (!mine || !ensure_known(world, mine)) return Take::unknown;
    tally.reserve(tally.size() + 1);  // so that a seat, once taken, is put down without fail

    auto lock = [&] { pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); }); };
    lock();
    bool reliable = mine->known && mine->unsettled_dml == 0;
    const std::int64_t own = own_doing();
    bool taken = reliable && take_if_room(world, mine, own, 0);
    std::uint64_t seen = mine->changes;
    LWLockRelease(&mine->lock);

    // The house looks full: expired rows still sit in it.
    for (int tries = 0; reliable && !taken && tries < 10; ++tries) {
        const std::int64_t expired = expired_natives(world, at);
        if (expired == 0) return Take::full;
        lock();
        reliable = mine->known && mine->unsettled_dml == 0;
        const bool same = mine->changes == seen;
        seen = mine->changes;
        taken = reliable && same && take_if_room(world, mine, own, expired);
        LWLockRelease(&mine->lock);
        if (same && reliable && !taken) return Take::full;
    }
    if (taken) {
        ++level().seats;
        ++level().pending;
        hold(mine, world.cohort_table);
    }
    return taken ? Take::taken : reliable ? Take::full : Take::unknown;
}

void take_anyway(const World& world, std::int64_t seats) {
    Counters* mine = counters();
    if (!mine) return;
    hold(mine, world.cohort_table);
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
    level().seats -= seats;
    level().pending -= seats;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->in_flight -= seats;
    LWLockRelease(&mine->lock);
}

std::int64_t in_flight_elsewhere() {
    Counters* mine = counters();
    std::int64_t seats = mine ? mine->in_flight : 0;
    for (const Level& level : tally) seats -= level.seats;
    return seats;
}

void add_rows(const World& world, std::string_view service, std::int64_t rows) {
    Counters* mine = counters();
    if (!mine || rows == 0) return;
    hold(mine, world.cohort_table);
    add_delta(level().deltas, service, rows);
}

void add_return(const World& world) {
    Counters* mine = counters();
    if (!mine) return;
    hold(mine, world.cohort_table);
    ++level().returns;
}

ToldAbout::ToldAbout() {
    ++told_about;
}
ToldAbout::~ToldAbout() {
    --told_about;
}

bool told() {
    return told_about > 0;
}

void notice_dml(Oid cohort) {
    if (told()) return;
    Counters* mine = counters();
    if (!mine) return;
    hold(mine, cohort);
    level().untold = true;
    seen::invalidate_all();
}

std::optional<Rows> rows(const World& world, For purpose) {
    Counters* mine = counters();
    if (!mine || (purpose == For::statement && IsolationUsesXactSnapshot()) || RecoveryInProgress() ||
        !ensure_known(world, mine))
        return std::nullopt;
    if (!tally.empty())
        return std::nullopt;  // what of our own doing a statement sees, only its snapshot can tell
    std::array<ServiceRow, kServices> copy;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_SHARED); });
    const bool known = mine->known && (purpose == For::decision || agrees(mine, GetActiveSnapshot()));
    const bool all = mine->all_services;
    const int services = mine->services;
    std::copy(mine->service, mine->service + services, copy.begin());
    LWLockRelease(&mine->lock);
    if (!known) return std::nullopt;
    Rows rows;
    rows.all = all;
    for (int i = 0; i < services; ++i)
        rows.services.push_back(
            {copy[static_cast<std::size_t>(i)].name, copy[static_cast<std::size_t>(i)].rows});
    return rows;
}

std::vector<ServiceRows> expired(const World& world, Instant at, For purpose) {
    const std::vector<std::string_view> reserved = purpose == For::statement
                                                       ? directory::reserved_users_of_statement()
                                                       : directory::registered_reserved_users(world);
    std::vector<ServiceRows> all;
    if (OidIsValid(world.cohort_by_time)) {
        const Found found = pg::guard([&, first = reserved.data(), count = reserved.size()] {
            return count_expired(world, at - kWindow, first, count, purpose);
        });
        for (int i = 0; i < found.services; ++i)
            all.push_back({found.service[i].name, found.service[i].rows});
        if (found.all) return all;
        all.clear();
    }
    const pg::Rows rows = purpose == For::statement ? expired_query.read(at - kWindow, reserved)
                                                    : expired_query.read_latest(at - kWindow, reserved);
    for (std::uint64_t i = 0; i < rows.count; ++i)
        all.push_back({rows.at(i, 0).string(), rows.at(i, 1).integer()});
    return all;
}

std::uint64_t changes() {
    Counters* mine = counters();
    return mine ? mine->changes : 0;
}

std::int64_t verify(const World& world) {
    Counters* mine = counters();
    if (!mine || !mine->known || has_untold()) return 0;
    pg::take_lock(pg::LockSpace::seats, 1);
    const std::int64_t off = recount(world, mine);
    pg::release_lock(pg::LockSpace::seats, 1);
    if (off > 0)
        pg::guard([&] {
            ereport(LOG, (errmsg("mau's counters were %lld rows off the table, and are mended",
                                 static_cast<long long>(off))));
        });
    return off;
}

std::string describe() {
    Counters* mine = counters();
    if (!mine) return "by lock and count (mau is not in shared_preload_libraries)";
    if (!mine->known) return "counters to be taken from the table at the next admission";
    return std::to_string(native_rows(mine)) + " native rows, " + std::to_string(mine->in_flight) +
           " admissions in flight; counted " + std::to_string(mine->recounts) + " times, mended " +
           std::to_string(mine->mended);
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
    if (!seats::told()) seen::invalidate_all();
    return PointerGetDatum(nullptr);
}

Datum describe_seats(FunctionCallInfo) {
    return pg::text_datum(seats::describe());
}

}  // namespace

MAU_FUNCTION(mau_cohort_changed, cohort_changed);
MAU_FUNCTION(mau_users_changed, users_changed);
MAU_FUNCTION(mau_describe_seats, describe_seats);

}  // namespace mau
