// The launcher: lists the databases, and starts ticks for those that are due, up to mau.max_workers at a
// time. Backend calls and plain data only: an error ends the process, and the postmaster starts it again
// after a minute.
#include "worker/slots.hpp"

namespace mau::worker {

namespace {

/// Handles signals: reloads the configuration, takes part in barriers, ends.
void handle_signals() {
    CHECK_FOR_INTERRUPTS();
    if (ShutdownRequestPending) proc_exit(1);  // 0 would mean: never start it again
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

/// Sleeps until the latch is set, or until `when`; DT_NOEND: without a time limit.
void sleep_until(TimestampTz when) {
    static uint32 const event = pg::compat::wait_event("MauLauncherMain");
    bool const timed = when != DT_NOEND;
    long const wait = timed ? TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when) : -1L;
    WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timed ? WL_TIMEOUT : 0), wait, event);
    ResetLatch(MyLatch);
}

List* existing = NIL;  // the names of the databases, during discover()

bool exists(const char* name) {
    ListCell* cell;
    foreach (cell, existing)
        if (std::strcmp(static_cast<const char*>(lfirst(cell)), name) == 0) return true;
    return false;
}

/// Logs the names in mau.databases that no database has, once. (A look-up by name would need pg_class, which
/// a process without a database cannot always read.)
void complain_of_unknown_databases() {
    static char known[1024];
    const char* const unknown = unknown_databases(exists);
    if (std::strncmp(known, unknown, sizeof known - 1) == 0) return;
    strlcpy(known, unknown, sizeof known);
    if (unknown[0])
        ereport(LOG, (errmsg("mau.databases lists databases that do not exist: %s", unknown),
                      errhint("Names are compared as they are written, with their case.")));
}

/// A tick that was started and is not over.
struct Running {
    Oid database;
    BackgroundWorkerHandle* handle;
    TimestampTz started;
    const char* ended;  // why it was ended; null: it was not
};
Running running[kMaxWorkers];
int running_count = 0;

/// Whether a tick of the database was started and is not over. Its slot may have been made since, and not
/// know of that tick.
bool is_running(Oid database) {
    for (int i = 0; i < running_count; ++i)
        if (running[i].database == database) return true;
    return false;
}

/// A database without a slot, that is, without the extension, as far as is known.
struct Candidate {
    Oid database;  // the key
    TimestampTz next_look;
    std::uint32_t round;  // of discover(), in which it was there
};
HTAB* candidates = nullptr;

/// Updates the candidates to these databases.
void keep_candidates(const Oid* databases, int count) {
    static std::uint32_t round = 0;
    if (!candidates) {
        HASHCTL control = {};
        control.keysize = sizeof(Oid);
        control.entrysize = sizeof(Candidate);
        candidates = hash_create("mau candidates", 64, &control, HASH_ELEM | HASH_BLOBS);
    }
    ++round;
    for (int i = 0; i < count; ++i) {
        bool known = false;
        auto* const each =
            static_cast<Candidate*>(hash_search(candidates, &databases[i], HASH_ENTER, &known));
        if (!known) each->next_look = 0;
        each->round = round;
    }
    HASH_SEQ_STATUS all;
    hash_seq_init(&all, candidates);
    while (auto* const each = static_cast<Candidate*>(hash_seq_search(&all)))
        if (each->round != round) hash_search(candidates, &each->database, HASH_REMOVE, nullptr);
}

/// Sets when to look at a database next, if it is a candidate.
void look_again(Oid database, int seconds) {
    auto* const candidate = static_cast<Candidate*>(hash_search(candidates, &database, HASH_FIND, nullptr));
    if (candidate) candidate->next_look = GetCurrentTimestamp() + seconds * USECS_PER_SEC;
}

/// The database that has waited longest, for a tick or for a look, or InvalidOid; `next` is when the first of
/// them is due.
Oid most_due(TimestampTz now, TimestampTz* next) {
    Oid database = slots::most_due(now, next, is_running);
    HASH_SEQ_STATUS all;
    hash_seq_init(&all, candidates);
    while (auto const* const each = static_cast<Candidate*>(hash_seq_search(&all))) {
        // After the clock was set back, the next look is due now.
        TimestampTz const when = each->next_look > now + kAskAgain * USECS_PER_SEC ? now : each->next_look;
        if (when >= *next) continue;
        *next = when;
        database = when <= now ? each->database : InvalidOid;
    }
    return database;
}

/// Updates the slots and the candidates to the databases that exist and that mau.databases allows.
void discover() {
    StartTransactionCommand();
    (void)GetTransactionSnapshot();
    Relation const catalog = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc const scan = table_beginscan_catalog(catalog, 0, nullptr);
    int count = 0, room = 64;
    existing = NIL;
    Oid* databases = static_cast<Oid*>(palloc(sizeof(Oid) * static_cast<Size>(room)));
    while (HeapTuple const tuple = heap_getnext(scan, ForwardScanDirection)) {
        auto const row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        existing = lappend(existing, pstrdup(NameStr(row->datname)));
        if (row->datistemplate || !row->datallowconn || pg::compat::is_invalid(row)) continue;
        if (!serves(NameStr(row->datname))) continue;
        if (count == room) {
            room *= 2;
            databases = static_cast<Oid*>(repalloc(databases, sizeof(Oid) * static_cast<Size>(room)));
        }
        databases[count++] = row->oid;
    }
    table_endscan(scan);
    table_close(catalog, AccessShareLock);
    keep_candidates(databases, slots::keep(databases, count));
    complain_of_unknown_databases();
    CommitTransactionCommand();
}

constexpr const char* kLost = "the worker ended without a report; the server log may say why";
constexpr const char* kWanted = "the worker was ended so that the database can be dropped, renamed or copied";
constexpr const char* kTooLong = "the worker was ended because it took longer than mau.tick_timeout";

/// Whether a database may be connected to now.
bool may_connect(Oid database) {
    StartTransactionCommand();
    bool const may = pg::compat::may_connect(database);
    CommitTransactionCommand();
    return may;
}

/// Starts the tick of a database.
void start_tick(Oid database) {
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    strlcpy(worker.bgw_library_name, "mau", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "mau_tick_main", sizeof worker.bgw_function_name);
    strlcpy(worker.bgw_name, "mau worker", sizeof worker.bgw_name);
    strlcpy(worker.bgw_type, "mau worker", sizeof worker.bgw_type);
    worker.bgw_main_arg = ObjectIdGetDatum(database);
    worker.bgw_notify_pid = MyProcPid;

    static bool complained = false;
    slots::begin(database);
    look_again(database, options.tick_interval);
    if (!may_connect(database)) {  // it would hold a worker slot until it may
        slots::report(database, slots::state(database).slot.extension, false, "55006",
                      "the database is being dropped, renamed or copied");
        slots::end(database, "");
        return;
    }
    BackgroundWorkerHandle* handle = nullptr;
    MemoryContext const outer = MemoryContextSwitchTo(TopMemoryContext);
    bool const registered = RegisterDynamicBackgroundWorker(&worker, &handle);
    MemoryContextSwitchTo(outer);
    if (!registered) {
        slots::enter(database);  // for its health; a tick that finds no extension gives the slot back
        slots::report(database, slots::state(database).slot.extension, false, "53400",
                      "no background worker slot is free; raise max_worker_processes");
        slots::end(database, "");
        if (complained) return;
        complained = true;
        ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                      errmsg("mau's launcher finds no free background worker slot"),
                      errhint("Raise max_worker_processes.")));
        return;
    }
    complained = false;
    look_again(database, kAskAgain);
    running[running_count++] = {database, handle, GetCurrentTimestamp(), nullptr};
}

/// Forgets the ticks that are over.
void collect_ticks() {
    for (int i = 0; i < running_count;) {
        pid_t pid = 0;
        BgwHandleStatus const status = GetBackgroundWorkerPid(running[i].handle, &pid);
        if (status != BGWH_STOPPED && status != BGWH_POSTMASTER_DIED) {
            ++i;
            continue;
        }
        slots::end(running[i].database, running[i].ended ? running[i].ended : kLost);
        pfree(running[i].handle);
        running[i] = running[--running_count];
    }
}

/// Ends the ticks that take too long: those that should have ended themselves by mau.tick_timeout, and those
/// that keep a database from being dropped, renamed or copied, which waits for 5 seconds only.
void end_long_ticks(TimestampTz now) {
    constexpr TimestampTz kGrace = 10 * USECS_PER_SEC;
    for (int i = 0; i < running_count; ++i) {
        Running& tick = running[i];
        TimestampTz const age = now - tick.started;
        if (tick.ended || age < kLongTick) continue;
        if (age > options.tick_timeout * USECS_PER_SEC + kGrace)
            tick.ended = kTooLong;
        else if (!may_connect(tick.database))
            tick.ended = kWanted;
        else
            continue;
        TerminateBackgroundWorker(tick.handle);
    }
}

/// Starts the ticks that are due, most overdue first, up to mau.max_workers at a time, and sleeps until the
/// next one is due; never returns.
[[noreturn]] void launch() {
    constexpr TimestampTz kWatch = USECS_PER_SEC;
    for (;;) {
        handle_signals();
        collect_ticks();
        TimestampTz next = DT_NOEND;
        if (options.enabled) {
            discover();
            while (running_count < options.max_workers) {
                Oid const database = most_due(GetCurrentTimestamp(), &next);
                if (!OidIsValid(database)) break;
                start_tick(database);
            }
            if (running_count >= options.max_workers) next = DT_NOEND;
            // A database may be created at any time.
            next = Min(next, GetCurrentTimestamp() + options.tick_interval * USECS_PER_SEC);
        }
        if (running_count > 0) {
            TimestampTz const now = GetCurrentTimestamp();
            end_long_ticks(now);
            next = Min(next, now + kWatch);
        }
        sleep_until(next);
    }
}

}  // namespace
}  // namespace mau::worker

extern "C" {
PGDLLEXPORT void mau_launcher_main(Datum);
void mau_launcher_main(Datum) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    mau::worker::slots::become_launcher();
    mau::worker::launch();
}
}
