// The state that launcher, ticks and sessions share, in shared memory.
//
// One lock guards everything; it is held for a few assignments; nothing that can raise is called under it.
// All of it can be lost at any moment: then every database is looked at again.
#pragma once

#include "pg/boundary.hpp"

namespace mau::worker {

/// The settings (GUCs) of this module, in their units.
struct Options {
    bool enabled;
    char* databases;
    int tick_interval, refresh_interval, reap_interval, fold_interval;  // seconds
    int batch_size;                                                     // rows
    int max_workers;                                                    // ticks at a time
    int tick_timeout;                                                   // seconds
};
extern Options options;

/// The largest value of mau.max_workers.
inline constexpr int kMaxWorkers = 64;

/// A tick that has more work than this ends at about this time, so that other databases get theirs. A much
/// older tick hangs.
inline constexpr TimestampTz kTickBudget = 2 * USECS_PER_SEC;
inline constexpr TimestampTz kLongTick = kTickBudget + USECS_PER_SEC;

/// Whether `mau.databases` names a database.
bool serves(const char* database);
/// The names in `mau.databases` that no database has, quoted and separated by commas; empty if there are
/// none. A backend call, inside a transaction.
const char* unknown_databases(bool (*exists)(const char* name));

/// The state of the extension as a tick found it.
enum class Extension : std::uint8_t { unknown, absent, present, other_version, restoring, paused };
const char* name(Extension extension);

/// The state of a database.
struct Slot {
    Oid database;  // InvalidOid: a free slot
    Extension extension;
    bool woken;                     // a tick was asked for, before it is due
    bool urgent;                    // the tick under way, or the last one, was asked for so
    bool more;                      // the last tick left work
    bool running;                   // a tick is under way
    int lost;                       // ticks in a row that ended without a report
    TimestampTz started, finished;  // of the last tick; 0: none yet
    char error_state[6];
    char error[256];  // why the last tick could not work; failures of tasks are in mau.tasks
};

/// When a database's next tick is due. One comes just before midnight UTC: a homeserver may overwrite the
/// last sighting of a day by the first of the next.
TimestampTz due(const Slot& slot);

namespace slots {

/// The state of the worker for a database; all zero unless the library was preloaded.
struct State {
    bool exists;       // whether there are slots: the library was preloaded
    bool is_left_out;  // all slots are taken by other databases
    bool launched;     // a launcher has run since the server started
    pid_t launcher;    // its process id; 0: none is running
    Slot slot;         // all zero if the database has none
};
State state(Oid database);
/// Copies the databases whose ticks have been under way for longer than kLongTick, and when these began;
/// returns how many.
int long_ticks(TimestampTz now, Oid* databases, TimestampTz* started, int most);

/// Asks for a tick of a database now.
void wake(Oid database);

// The launcher's part.

/// Makes this process the launcher that `wake` wakes, until it exits.
void become_launcher();
/// Keeps slots for these databases and no others; returns how many got none.
int keep(const Oid* databases, int count);
/// The database that has waited longest for a tick, or InvalidOid; `next` is when the first of them is due.
Oid most_due(TimestampTz now, TimestampTz* next);
/// Notes that a tick starts.
void begin(Oid database);
/// Notes that a tick's process has ended, and the reason if the launcher ended it.
void end(Oid database, const char* reason);

// The tick's part.

/// Notes the result of a tick. Without an error pass empty texts.
void report(Oid database, Extension extension, bool more, const char* error_state, const char* error);

}  // namespace slots
}  // namespace mau::worker
