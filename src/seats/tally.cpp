#include "seats/tally.hpp"

#include <algorithm>

#include "pg/shmem.hpp"

namespace mau::seats {

std::vector<Level> tally;
std::int64_t committing = 0;

namespace {

struct Shared {
    Counters counters[pg::kMaxDatabases];
    Holder holders[FLEXIBLE_ARRAY_MEMBER];
};

pg::SharedPiece piece(
    "mau seats",
    [] { return offsetof(Shared, holders) + sizeof(Holder) * static_cast<std::size_t>(holder_count()); },
    [](void* memory) {
        auto* shared = static_cast<Shared*>(memory);
        int const tranche = LWLockNewTrancheId();
        for (Counters& counters : shared->counters) LWLockInitialize(&counters.lock, tranche);
    });

Oid tally_cohort = InvalidOid;
int announced_at = 0;        // the depth of triggers at which DML is announced, plus 1; 0: none is
bool pre_announced = false;  // between pre-commit and the end

}  // namespace

int holder_count() {
    return MaxBackends + NUM_AUXILIARY_PROCS;
}

bool preloaded() {
    return piece.get<Shared>() != nullptr;
}

Counters* counters() {
    auto* shared = piece.get<Shared>();
    int const number = shared ? pg::database_number() : -1;
    return number < 0 ? nullptr : &shared->counters[number];
}

Holder* holders() {
    return piece.get<Shared>()->holders;
}

Holder& my_holder() {
    return holders()[pg::compat::proc_number()];
}

int number_of(const Counters* mine) {
    return static_cast<int>(mine - piece.get<Shared>()->counters) + 1;
}

Level& level() {
    int const nest = GetCurrentTransactionNestLevel();
    if (tally.empty() || tally.back().nest < nest) tally.push_back(Level{nest, 0, 0, 0, 0, 0, false});
    return tally.back();
}

void hold(Counters* mine, Oid cohort) {
    Holder& holder = my_holder();
    if (holder.database != 0) {
        // DROP and CREATE EXTENSION in this transaction: the announced rows belong to a dropped table.
        if (cohort != tally_cohort) tally.front().unannounced = true;
        tally_cohort = cohort;
        return;
    }
    TransactionId const xid = pg::guard([] { return GetTopTransactionId(); });
    tally_cohort = cohort;
    level();  // so that the end of the transaction is not skipped
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    holder = {number_of(mine), xid, false};
    LWLockRelease(&mine->lock);
}

void forget(Counters* mine) {
    mine->known = false;
    mine->look_at = 0;
    ++mine->forgotten;
}

void note_newest(Counters* mine, TransactionId xid) {
    if (!TransactionIdIsNormal(mine->newest) || TransactionIdFollows(xid, mine->newest)) mine->newest = xid;
}

bool has_unannounced() {
    return std::any_of(tally.begin(), tally.end(), [](const Level& level) { return level.unannounced; });
}

bool has_spare_seat() {
    return !tally.empty() && tally.back().nest == GetCurrentTransactionNestLevel() && tally.back().spare > 0;
}

std::int64_t own_change() {
    std::int64_t own = 0;
    for (const Level& level : tally) own += level.pending - level.seats + level.rows;
    return own;
}

namespace {

// The callbacks must not raise: they run after the commit or abort is decided.

void end_transaction(bool committed) {
    auto* shared = piece.get<Shared>();
    if (tally.empty() || !shared) return;
    Counters* mine = counters();
    Holder& holder = my_holder();
    LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
    bool unannounced = false;
    for (const Level& level : tally) {
        mine->in_flight -= level.seats;
        unannounced |= level.unannounced;
        if (!committed) continue;
        if (level.rows != 0) note_newest(mine, holder.xid);
        if (mine->cohort == tally_cohort && !holder.settled) mine->rows += level.rows;
    }
    if (mine->in_flight < 0) mine->in_flight = 0;
    mine->committing -= committing;
    if (unannounced) forget(mine);
    if (pre_announced) --mine->unsettled_dml;
    holder.database = 0;
    LWLockRelease(&mine->lock);
    tally.clear();
    committing = 0;
    pre_announced = false;
    announced_at = 0;
}

/// Before unannounced DML becomes visible, admissions stop relying on the counters.
void announce_before_commit() {
    if (!has_unannounced()) return;
    Counters* mine = counters();
    LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
    ++mine->unsettled_dml;
    pre_announced = true;
    LWLockRelease(&mine->lock);
}

void on_transaction(XactEvent event, void*) {
    if (tally.empty()) {
        announced_at = 0;
        return;
    }
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PARALLEL_PRE_COMMIT:
            announce_before_commit();
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
                tally.push_back(Level{1, 0, 0, 0, 0, 0, ended.unannounced});
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
        outer.joined += ended.joined;
        outer.unannounced |= ended.unannounced;
    }
}

}  // namespace

void init() {
    pg::guard([] {
        RegisterXactCallback(on_transaction, nullptr);
        RegisterSubXactCallback(on_subtransaction, nullptr);
    });
    tally.reserve(8);
}

namespace {

/// The depth of nested triggers. (The server's own variable is static.)
int trigger_depth() {
    return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, Datum(0)));
}

}  // namespace

Announced::Announced() : outer_(announced_at) {
    announced_at = trigger_depth() + 1;
}
Announced::~Announced() {
    announced_at = outer_;
}

bool is_announced() {
    return announced_at > 0 && trigger_depth() == announced_at;
}

}  // namespace mau::seats
