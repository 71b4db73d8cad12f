// The background worker: sync, fold, refresh and reap, on time, in every database that has the extension.
//
//   launcher   a static background worker, there when the library is preloaded and the server is no standby.
//   It is
//              connected to no database; it looks which databases there are, and for each that is due starts
//              a
//   tick       a short-lived worker, one at a time: it connects, sees whether the extension is there, calls
//   its SQL
//              functions in batches, each a transaction, for some two seconds at most, reports, and exits. So
//              it never stands in the way of DROP or RENAME DATABASE for long, needs one worker slot however
//              many databases there are, and cannot leak.
//   slots      what is known of each database, in shared memory (worker_slots.hpp).
//
// What was done and what failed is in mau.tasks, a table: shared memory only says what to look at next.
#pragma once

namespace mau::worker {

/// Defines the settings, and registers the launcher while the library is preloaded; called once per process.
void init();

/// Asks for a tick of this database as soon as the transaction has committed; after attach, for instance.
void wake_at_commit();

}  // namespace mau::worker
