// The changes of the current transaction, by level of subtransaction, and the callbacks that apply them to
// the counters. Included only by files of this folder.
#pragma once

#include "seats/seats.hpp"

namespace mau::seats {

/// The counters of one database; everything under `lock`.
struct Counters {
    LWLock lock;
    Oid cohort;             // the table of the rows: another one after DROP and CREATE EXTENSION
    std::uint64_t version;  // of that table's triggers, when the rows were counted
    bool known;             // the rows were taken from the table and kept up to date since
    TransactionId newest;   // every transaction counted in `rows` is this one or an earlier one
    int unsettled_dml;  // transactions with unannounced DML, from pre-commit until it is visible or undone
    std::uint64_t forgotten;  // how often the counters became unknown: a recount in progress is void then
    std::int64_t rows;        // of natives, committed
    std::int64_t in_flight;   // seats taken by transactions that are not done
    std::int64_t joined;      // native rows added by all transactions, from pre-commit on
    std::int64_t committing;  // of these, rows of transactions between pre-commit and their end
    std::int64_t look_at;  // with so many in `joined`, the state of the limit may be another one; 0: unknown
    std::uint64_t look_for;  // the thresholds that this is about
    std::uint64_t recounts, mended;
    std::int64_t ahead;                           // sightings ahead of the server's clock, moved to now
    std::int64_t lost;                            // calls that could be neither carried out nor deferred
    TimestampTz lost_at;                          // the last of them
    std::int64_t blocked_full, blocked_disabled;  // refused requests
};

/// A backend's transaction with an admission in progress, for the recount; under the lock of its database's
/// counters.
struct Holder {
    int database;       // number + 1; 0: nothing
    TransactionId xid;  // top level
    bool settled;       // a recount has counted its rows already
};

/// The counters of the current database; null without preload, or where there is no room for it.
Counters* counters();
/// The number of holders: one for each process, for all databases.
int holder_count();
Holder* holders();
Holder& my_holder();
/// As `Holder::database` has it.
int number_of(const Counters* mine);

/// Marks the counters as unknown; the next admission counts the table.
void forget(Counters* mine);
/// Notes that `rows` includes a transaction. Later transactions may have ended before it.
void note_newest(Counters* mine, TransactionId xid);

/// The changes of a subtransaction. Plain data: callbacks move it.
struct Level {
    int nest;
    std::int64_t seats;    // in flight
    std::int64_t pending;  // seats taken for rows that are not announced yet
    std::int64_t spare;    // seats of rows that it has removed, to be taken by others of its own
    std::int64_t rows;     // native rows added, less those removed
    std::int64_t joined;   // native rows added
    bool unannounced;      // DML on the cohort that was not announced
};

/// The rows of this transaction in `Counters::committing`.
extern std::int64_t committing;

/// Whether the counters are those of the table and its triggers.
bool are_known(const Config& config, const Counters* mine);

extern std::vector<Level> tally;  // innermost subtransaction last; empty in most transactions

/// The level of the current subtransaction.
Level& level();

/// Begins a tally: the holder shows a recount which transaction these rows and seats belong to.
void hold(Counters* mine, Oid cohort);

/// Whether this transaction has unannounced DML; then the rows that it sees are no count for other sessions.
bool has_unannounced();

/// Whether a row that this subtransaction has removed leaves its seat to the next.
bool has_spare_seat();

/// The change of the sum by this transaction, as it sees it itself: its rows, added or removed, in place of
/// the seats that it took for them. For others the seats count until it ends.
std::int64_t own_change();

/// Whether counters are in shared memory at all.
bool preloaded();

}  // namespace mau::seats
