// The background worker: sync, fold, refresh, reap, reconcile and compare, on time, in every database that
// has the extension.
//
// launcher: a static background worker, there when the library is preloaded and the server is no standby. It
//   is connected to no database. It lists the databases, and starts a tick for each that is due, up to
//   mau.max_workers at a time. It ends a tick that takes longer than mau.tick_timeout and did not end itself,
//   and one that keeps a database from being dropped, renamed or copied.
// tick: a short-lived worker. It connects, checks whether the extension is there, calls its SQL functions in
// batches, each a transaction, for some two seconds at most, reports, and exits. A statement that takes
// longer than mau.tick_timeout, such as one on a homeserver's view that hangs, is cancelled and counted as a
// failure. slots: the state of each database, in shared memory (worker/slots.hpp).
//
// The table mau.tasks has the results and failures; shared memory only says which database is next. A row
// in mau.worker_pause keeps the ticks of a database from working. A tick holds LockSpace::task key 0 for its
// session, and key 1 (kBatchLock) in each batch; mau.pause_worker() takes key 1 to wait for the batch that is
// under way.
#pragma once

namespace mau::worker {

/// Defines the settings, and registers the launcher while the library is preloaded; called once per process.
void init();

/// Asks for a tick of this database as soon as the transaction has committed; after attach, for instance.
void wake_at_commit();

}  // namespace mau::worker
