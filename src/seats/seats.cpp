#include "seats/seats.hpp"

#include <algorithm>
#include <cstdlib>

#include "pg/shmem.hpp"
#include "pg/values.hpp"
#include "cache/seen.hpp"

namespace mau::seats {

namespace {

/// The counters of one database; everything under `lock`.
struct Counters {
    LWLock lock;
    Oid cohort;               // whose rows these are: another table after DROP and CREATE EXTENSION
    std::uint64_t version;    // of that table's triggers, when the rows were counted
    bool known;               // the rows were taken from the table and kept up to date since
    TransactionId newest;     // every transaction that `rows` tells of is this one or an earlier one
    int unsettled_dml;        // transactions between the end of unannounced DML and its being visible or gone
    std::uint64_t forgotten;  // how often `known` was taken back: a recount that was under way does not stand
    std::int64_t rows;        // of natives, committed
    std::int64_t in_flight;   // seats taken by transactions that are not done
    std::uint64_t recounts, mended;
    std::int64_t ahead;  // sightings ahead of the server's clock, moved to now
};

/// What one backend's transaction has in flight, for the recount; under the lock of its database's counters.
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

/// What a subtransaction has done. Plain data: callbacks move it.
struct Level {
    int nest;
    std::int64_t seats;    // in flight
    std::int64_t pending;  // seats taken for rows that are not announced yet
    std::int64_t spare;    // seats of rows that it has removed, to be taken by others of its own
    std::int64_t rows;     // native rows added, less those removed
    bool untold;           // DML on the cohort that was not announced
};

std::vector<Level> tally;  // innermost subtransaction last; empty in most transactions
Oid tally_cohort = InvalidOid;
int told_at = 0;                // the depth of triggers at which DML is announced, plus 1; 0: none is
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
    if (tally.empty() || tally.back().nest < nest) tally.push_back(Level{nest, 0, 0, 0, 0, false});
    return tally.back();
}

/// Begins a tally: the holder says to a recount whose rows and seats these are.
void hold(Counters* mine, Oid cohort) {
    Holder& holder = my_holder();
    if (holder.database != 0) {
        // DROP and CREATE EXTENSION in this very transaction: what was told is of a table that is gone.
        if (cohort != tally_cohort) tally.front().untold = true;
        tally_cohort = cohort;
        return;
    }
    TransactionId const xid = pg::guard([] { return GetTopTransactionId(); });
    tally_cohort = cohort;
    level();  // the end of the transaction finds something to end
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    holder = {static_cast<int>(mine - piece.get<Shared>()->counters) + 1, xid, false};
    LWLockRelease(&mine->lock);
}

/// Forgets the counters: the next who needs them takes them from the table.
void forget(Counters* mine) {
    mine->known = false;
    ++mine->forgotten;
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
        const Holder& holder = shared->holders[i];
        if (holder.database == number && !XidInMVCCSnapshot(holder.xid, snapshot)) return false;
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
    bool untold = false;
    for (const Level& level : tally) {
        mine->in_flight -= level.seats;
        untold |= level.untold;
        if (!committed) continue;
        if (level.rows != 0) note_newest(mine, holder.xid);
        if (mine->cohort == tally_cohort && !holder.settled) mine->rows += level.rows;
    }
    if (mine->in_flight < 0) mine->in_flight = 0;
    if (untold) forget(mine);
    if (untold_announced) --mine->unsettled_dml;
    holder.database = 0;
    LWLockRelease(&mine->lock);
    tally.clear();
    untold_announced = false;
    told_at = 0;
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
        told_at = 0;
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
        Level ended = tally.back();
        tally.pop_back();
        if (event == SUBXACT_EVENT_ABORT_SUB) {
            if (ended.seats > 0) {
                Counters* mine = counters();
                LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
                mine->in_flight -= ended.seats;
                LWLockRelease(&mine->lock);
            }
            if (tally.empty()) {  // the end of the transaction still has to clear the holder
                tally.push_back(Level{1, 0, 0, 0, 0, ended.untold});
                break;
            }
            continue;
        }
        if (tally.empty() || tally.back().nest < nest - 1) {
            ended.nest = nest - 1;
            tally.push_back(ended);
            break;
        }
        Level& outer = tally.back();
        outer.seats += ended.seats;
        outer.pending += ended.pending;
        outer.spare += ended.spare;
        outer.rows += ended.rows;
        outer.untold |= ended.untold;
    }
}

// --- Recount
// ----------------------------------------------------------------------------------------------------

/// The column of the cohort that says the service, from 1 on.
constexpr AttrNumber kService = 3;

/// Counts the native rows, in half the time that a statement takes. Inside a guard only.
std::int64_t count_rows(const World& world, Snapshot snapshot) {
    AclResult const rights = pg_class_aclcheck(world.cohort_table, GetUserId(), ACL_SELECT);
    if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, get_rel_name(world.cohort_table));
    Relation const table = table_open(world.cohort_table, AccessShareLock);
    TupleTableSlot* const slot = table_slot_create(table, nullptr);
    TableScanDesc const scan = table_beginscan(table, snapshot, 0, nullptr);
    std::int64_t rows = 0;
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        bool null = false;
        const auto* const service = DatumGetTextPP(slot_getattr(slot, kService, &null));
        if (std::string_view(VARDATA_ANY(service), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(service))) ==
            "native")
            ++rows;
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    table_close(table, AccessShareLock);
    return rows;
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
        mine->version = world.cohort_version;
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
        const std::int64_t counted = count_rows(world, snapshot);
        UnregisterSnapshot(snapshot);
        return counted;
    });
    for (const Level& level : tally) now -= level.rows;  // our own are in the snapshot, and come at commit
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

bool are_known(const World& world, const Counters* mine) {
    return mine->known && mine->cohort == world.cohort_table && mine->version == world.cohort_version;
}

/// Makes sure that the counters are known; false where they cannot be now.
bool ensure_known(const World& world, Counters* mine) {
    if (has_untold() || !world.cohort_is_watched) return false;
    if (IsInParallelMode()) return are_known(world, mine);
    for (int tries = 0; tries < 3; ++tries) {
        if (are_known(world, mine)) return true;
        if (mine->unsettled_dml > 0) return false;
        pg::take_lock(pg::LockSpace::seats, 1);  // one recount at a time
        if (!are_known(world, mine)) recount(world, mine);
        pg::release_lock(pg::LockSpace::seats, 1);
    }
    return are_known(world, mine);
}

/// Whether a row that this subtransaction has removed leaves its seat to the next.
bool has_spare_seat() {
    return !tally.empty() && tally.back().nest == GetCurrentTransactionNestLevel() && tally.back().spare > 0;
}

/// By how much this transaction's own doing changes the sum, for itself: its rows, added or removed, in
/// place of the seats that it took for them. Others go by the seats until it is done.
std::int64_t own_doing() {
    std::int64_t own = 0;
    for (const Level& level : tally) own += level.pending - level.seats + level.rows;
    return own;
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

Take take(const World& world, std::int64_t* missing) {
    Counters* mine = counters();
    if (!mine || !ensure_known(world, mine)) return Take::unknown;
    tally.reserve(tally.size() + 1);  // so that a seat, once taken, is put down without fail
    const std::int64_t own = own_doing();
    const bool has_spare = has_spare_seat();
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    const bool reliable = are_known(world, mine) && mine->unsettled_dml == 0;
    *missing = mine->rows + mine->in_flight + own - world.settings.max_mau_value + 1;
    const bool taken = reliable && *missing <= 0;
    if (taken && !has_spare) ++mine->in_flight;
    LWLockRelease(&mine->lock);
    if (!taken) return reliable ? Take::full : Take::unknown;
    if (has_spare)
        --level().spare;
    else
        ++level().seats;
    ++level().pending;
    hold(mine, world.cohort_table);
    return Take::taken;
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

void add_rows(const World& world, std::string_view service, std::int64_t rows) {
    Counters* mine = counters();
    if (!mine || rows == 0 || service != "native") return;
    hold(mine, world.cohort_table);
    level().rows += rows;
    if (rows < 0) level().spare -= rows;
}

namespace {

/// How deep in triggers we are. (The server's own variable is static.)
int trigger_depth() {
    return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, Datum(0)));
}

}  // namespace

ToldAbout::ToldAbout() : outer_(told_at) {
    told_at = trigger_depth() + 1;
}
ToldAbout::~ToldAbout() {
    told_at = outer_;
}

bool told() {
    return told_at > 0 && trigger_depth() == told_at;
}

void notice_dml(Oid cohort) {
    if (told()) return;
    Counters* mine = counters();
    if (!mine) return;
    hold(mine, cohort);
    level().untold = true;
    seen::invalidate_all();
}

std::optional<std::int64_t> rows(const World& world, For purpose) {
    Counters* mine = counters();
    if (!mine || (purpose == For::statement && IsolationUsesXactSnapshot()) || RecoveryInProgress() ||
        !ensure_known(world, mine))
        return std::nullopt;
    if (!tally.empty())
        return std::nullopt;  // what of our own doing a statement sees, only its snapshot can tell
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_SHARED); });
    const bool known =
        are_known(world, mine) && (purpose == For::decision || agrees(mine, GetActiveSnapshot()));
    const std::int64_t rows = mine->rows;
    LWLockRelease(&mine->lock);
    return known ? std::optional(rows) : std::nullopt;
}

std::int64_t verify(const World& world) {
    Counters* mine = counters();
    if (!mine || !are_known(world, mine) || has_untold()) return 0;
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

void count_ahead(std::int64_t sightings) {
    Counters* mine = counters();
    if (!mine) return;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->ahead += sightings;
    LWLockRelease(&mine->lock);
}

std::string describe() {
    Counters* mine = counters();
    if (!piece.get<Shared>()) return "by lock and count (mau is not in shared_preload_libraries)";
    if (!mine)
        return "by lock and count (more than " + std::to_string(pg::kMaxDatabases) +
               " databases have used mau since the server started)";
    if (!mine->known) return "counters to be taken from the table at the next admission";
    return std::to_string(mine->rows) + " native rows, " + std::to_string(mine->in_flight) +
           " admissions in flight; counted " + std::to_string(mine->recounts) + " times, mended " +
           std::to_string(mine->mended) +
           (mine->ahead > 0 ? "; " + std::to_string(mine->ahead) + " sightings ahead of the clock" : "");
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
