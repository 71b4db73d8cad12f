// The worker's tasks: which are due, their functions, and their results in mau.tasks.
//
// All functions need SPI and a transaction.
#pragma once

#include "pg/spi.hpp"

namespace mau::worker::schedule {

/// The result of a batch of a task.
struct Batch {
    std::int64_t handled = 0;  // as its function noted in mau.tasks
    bool busy = false;         // another session runs the task
    bool restoring = false;    // a restore has begun meanwhile
    bool paused = false;       // by mau.pause_worker()
    bool idle = false;         // there is nothing to do at all
    bool trouble = false;      // noted by the function itself
    bool more = false;
};

/// A task: the SQL function behind it, and how often it is due.
struct ScheduledTask {
    const char* name;
    const char* call;  // as pg_stat_activity shows it
    pg::Rows (*run)(std::int64_t batch_size);
    int (*interval)();  // seconds; 0: at every tick
    bool needs_users;   // has nothing to do while there are no users and no source
};

/// In the order in which they are run.
inline constexpr int kTasks = 6;
extern const ScheduledTask tasks[kTasks];

/// The start of a run, and the values that mau.tasks had from the run before.
struct Begun {
    std::int64_t at;
    std::optional<std::int64_t> before;
};

/// Begins a run if it is due, or if mau.wake_worker() asked for it. A run that was begun before and never
/// ended is counted as a failure first.
std::optional<Begun> begin(const ScheduledTask& task, bool urgent);
/// Runs a batch by the task's function.
Batch run_batch(const ScheduledTask& task);
/// Ends a run with the result of its last batch, and sets when the next is due.
void end(const ScheduledTask& task, const Begun& begun, const Batch& last, std::int64_t handled);
/// Notes an error, and puts the next run off.
void fail(const ScheduledTask& task, const pg::Trouble& trouble);

/// Whether a COPY by the extension's owner, or by a superuser, into a table of mau's is under way, as in a
/// restore; needs the right to see all sessions. (Every batch checks the tables.)
bool owner_copies();

/// Whether mau.pause_worker() was called, and mau.resume_worker() was not.
bool is_paused();

/// The lock, in LockSpace::task, that a batch of the worker holds to its end. mau.pause_worker() takes it
/// too.
inline constexpr std::uint64_t kBatchLock = 1;

}  // namespace mau::worker::schedule
