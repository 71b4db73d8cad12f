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

/// The time between two looks at a database that has nothing for us.
inline constexpr int kAskAgain = 600;  // seconds

/// The state of a database that has the extension, or where it was created just now.
struct Slot {
    Oid database;  // InvalidOid: a free slot
    Extension extension;
    bool woken;                     // a tick was asked for, before it is due
    bool urgent;                    // the tick under way, or the last one, was asked for so
    bool more;                      // the last tick left work
    bool running;                   // a tick is under way, until its process has ended
    bool reported;                  // the tick under way has reported its result
    int lost;                       // ticks in a row that ended without a report
    TimestampTz started, finished;  // of the last tick; 0: none yet
    char error_state[6];
    char error[256];  // why the last tick could not work; failures of tasks are in mau.tasks
};

/// The state of a database that a tick published for mau.fleet().
struct Figures {
    char health[16];  // the word of mau.health(); empty: nothing was published
    char reason[512];
    TimestampTz at;                     // of the numbers; 0: there are none
    std::int64_t dau, wau, mau, limit;  // users; kNone where there is no such figure
    bool blocked;                       // newcomers were refused
};
inline constexpr std::int64_t kNone = -1;

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
/// The slot of a database, and its published figures.
struct Member {
    Slot slot;
    Figures figures;
};
/// Copies the slots that are taken to `members`, which has room for pg::kMaxDatabases; returns how many.
int members(Member* members);
/// Copies the databases whose ticks have been under way for longer than kLongTick, and when these began;
/// returns how many.
int long_ticks(TimestampTz now, Oid* databases, TimestampTz* started, int most);

/// Asks for a tick of a database now.
void wake(Oid database);

// The launcher's part.

/// Makes this process the launcher that `wake` wakes, until it exits.
void become_launcher();
/// Frees the slots of all databases but these. Moves those of these that have no slot to the front, and
/// returns how many.
int keep(Oid* databases, int count);
/// The database that has waited longest for a tick, or InvalidOid; `next` is when the first of them is due.
/// Those for which `is_running` is true are left out; it is called under the lock.
Oid most_due(TimestampTz now, TimestampTz* next, bool (*is_running)(Oid database));
/// Notes that a tick starts.
void begin(Oid database);
/// Notes that a tick's process has ended, and the reason if the launcher ended it.
void end(Oid database, const char* reason);

// The tick's part.

/// Gives the database a slot if it has none, for a tick that has found the extension. Returns false if all
/// slots are taken.
bool enter(Oid database);
/// Notes what a tick has found, before it ends, for mau.health(). Without an error pass empty texts.
void note(Oid database, Extension extension, const char* error_state, const char* error);
/// The published figures of a database; empty if it has no slot.
Figures published(Oid database);
/// Publishes the figures of a database.
void publish(Oid database, const Figures& figures);
/// Publishes that a database's figures could not be read; the numbers stay.
void publish_failure(Oid database, const char* reason);
/// Notes the result of a tick. Without an error pass empty texts. A database without the extension gives up
/// its slot, unless another tick was asked for.
void report(Oid database, Extension extension, bool more, const char* error_state, const char* error);

}  // namespace slots
}  // namespace mau::worker
