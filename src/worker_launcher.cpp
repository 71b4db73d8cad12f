// The launcher: which databases there are, which is due, and a tick for it. Backend calls and plain data
// only: an error ends the process, and the postmaster starts it again after a minute.
#include "worker_slots.hpp"

namespace mau::worker {

namespace {

/// Does what a signal asked for: reloads the configuration, takes part in barriers, ends.
void handle_signals() {
    CHECK_FOR_INTERRUPTS();
    if (ShutdownRequestPending) proc_exit(1);  // 0 would mean: never start it again
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

/// Sleeps until somebody sets the latch, or until `when`; DT_NOEND: as long as it takes.
void sleep_until(TimestampTz when) {
    static uint32 const event = pg::compat::wait_event("MauLauncherMain");
    bool const timed = when != DT_NOEND;
    long const wait = timed ? TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when) : -1L;
    WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timed ? WL_TIMEOUT : 0), wait, event);
    ResetLatch(MyLatch);
}

/// Brings the slots in line with the databases that there are and that we are meant to serve.
void discover() {
    static bool complained = false;
    StartTransactionCommand();
    (void)GetTransactionSnapshot();
    Relation const catalog = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc const scan = table_beginscan_catalog(catalog, 0, nullptr);
    int count = 0, room = 64;
    Oid* databases = static_cast<Oid*>(palloc(sizeof(Oid) * static_cast<Size>(room)));
    while (HeapTuple const tuple = heap_getnext(scan, ForwardScanDirection)) {
        auto const row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
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
    int const homeless = slots::keep(databases, count);
    CommitTransactionCommand();
    if (homeless > 0 && !complained)
        ereport(LOG,
                (errmsg("mau's worker serves %d databases and leaves out %d", count - homeless, homeless),
                 errhint("Name those that have the extension in mau.databases.")));
    complained = homeless > 0;
}

/// Starts the tick of a database and waits for its end.
void run_tick(Oid database) {
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
    BackgroundWorkerHandle* handle = nullptr;
    if (!RegisterDynamicBackgroundWorker(&worker, &handle)) {
        slots::report(database, slots::look(database).extension, false, "53400",
                      "no background worker slot is free; raise max_worker_processes");
        if (complained) return;
        complained = true;
        ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                      errmsg("mau's launcher finds no free background worker slot"),
                      errhint("Raise max_worker_processes.")));
        return;
    }
    complained = false;
    for (;;) {
        pid_t pid = 0;
        BgwHandleStatus const status = GetBackgroundWorkerPid(handle, &pid);
        if (status == BGWH_STOPPED || status == BGWH_POSTMASTER_DIED) break;
        sleep_until(DT_NOEND);  // the postmaster tells of its start and its end
        handle_signals();
    }
    pfree(handle);
    slots::end(database);
}

/// Starts what is due, most overdue first, and sleeps until the next is; for ever.
[[noreturn]] void launch() {
    for (;;) {
        handle_signals();
        if (!options.enabled) {
            sleep_until(DT_NOEND);
            continue;
        }
        discover();
        TimestampTz const now = GetCurrentTimestamp();
        TimestampTz next = 0;
        Oid const database = slots::most_due(now, &next);
        if (OidIsValid(database))
            run_tick(database);
        else  // databases may come at any time
            sleep_until(Min(next, now + options.tick_interval * USECS_PER_SEC));
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
    mau::worker::slots::take_post();
    mau::worker::launch();
}
}
