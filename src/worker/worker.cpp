#include "worker/worker.hpp"

#include "rules/calendar.hpp"
#include "pg/locks.hpp"
#include "pg/values.hpp"
#include "worker/schedule.hpp"
#include "worker/slots.hpp"

namespace mau::worker {

Options options = {true, nullptr, 60, 300, 3600, 300, 10000, 3, 600};

namespace {

/// Splits mau.databases; the names point into `copy` and are as they are written, whatever their case.
/// Returns false if it is no list.
bool split(char* copy, List** names) {
    return SplitGUCList(copy, ',', names);
}

bool check_databases(char** value, void**, GucSource) {
    char* copy = pstrdup(*value);
    List* names = NIL;
    bool const valid = split(copy, &names);
    if (!valid) {
        GUC_check_errdetail("The list is malformed.");
        GUC_check_errhint(
            "Separate names by commas, and put those with commas or spaces into double quotes.");
    }
    list_free(names);
    pfree(copy);
    return valid;
}

void define_options() {
    DefineCustomBoolVariable("mau.worker", "Whether the background worker works.",
                             "Turn it off to stop it for a while without a restart, or to leave its "
                             "tasks to pg_cron. It is there only with mau in "
                             "shared_preload_libraries.",
                             &options.enabled, true, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "mau.databases", "The databases in which the background worker looks for the extension.",
        "A comma-separated list; * = all, empty = none. Names are compared as they are written, with their "
        "case. Name them where there are many and few have the extension.",
        &options.databases, "*", PGC_SIGHUP, GUC_LIST_INPUT, check_databases, nullptr, nullptr);
    DefineCustomIntVariable(
        "mau.tick_interval",
        "How often the background worker looks at a database, and syncs from its homeserver.",
        "Lower it for fresher figures; a tick with nothing new costs some milliseconds.",
        &options.tick_interval, 60, 1, 3600, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "mau.refresh_interval", "How often the background worker writes a row into mau.snapshots.",
        "Raise it for fewer rows; no more often than mau.tick_interval.", &options.refresh_interval, 300, 1,
        SECS_PER_DAY, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "mau.reap_interval", "How often the background worker takes expired users out of the cohort.",
        "Counts are exact whatever it is; raise it to write less often, lower it to write less at once.",
        &options.reap_interval, 3600, 1, SECS_PER_DAY, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "mau.fold_interval", "How often the background worker folds new visits into bitmaps.",
        "Figures are exact whatever it is; raise it to write less often, lower it to keep mau.visits "
        "small.",
        &options.fold_interval, 300, 1, SECS_PER_DAY, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "mau.batch_size", "How many rows the background worker handles in a transaction.",
        "Lower it where its transactions are too long for others; raise it to catch up faster.",
        &options.batch_size, 10000, 1, 10000000, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "mau.max_workers", "In how many databases the background worker works at a time.",
        "Raise it where many databases are slow. Each takes one of max_worker_processes while it works, and "
        "the launcher takes one more.",
        &options.max_workers, 3, 1, kMaxWorkers, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "mau.tick_timeout", "How long the background worker's work in a database may take.",
        "Work that takes longer, such as a query of a homeserver's view that hangs, is ended and counted as "
        "a "
        "failure. Raise it if a batch or the daily comparison needs longer.",
        &options.tick_timeout, 600, 1, SECS_PER_DAY, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
}

void register_launcher() {
    BackgroundWorker launcher = {};
    launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
    launcher.bgw_restart_time = 60;
    strlcpy(launcher.bgw_library_name, "mau", sizeof launcher.bgw_library_name);
    strlcpy(launcher.bgw_function_name, "mau_launcher_main", sizeof launcher.bgw_function_name);
    strlcpy(launcher.bgw_name, "mau launcher", sizeof launcher.bgw_name);
    strlcpy(launcher.bgw_type, "mau launcher", sizeof launcher.bgw_type);
    RegisterBackgroundWorker(&launcher);
}

bool wake_wanted = false;  // by the transaction under way

/// Wakes the launcher once the transaction has committed.
void on_transaction(XactEvent event, void*) {
    if (event == XACT_EVENT_COMMIT && wake_wanted) slots::wake(MyDatabaseId);
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        wake_wanted = false;
}

}  // namespace

void init() {
    pg::guard([] {
        define_options();
        RegisterXactCallback(on_transaction, nullptr);
        // pg_upgrade notes the next transaction id before it starts the server: rows that a worker wrote then
        // would be in the future of the new server.
        if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade) register_launcher();
    });
}

void wake_at_commit() {
    wake_wanted = true;
}

bool serves(const char* database) {
    List* names = NIL;
    if (!split(pstrdup(options.databases), &names)) return false;
    ListCell* cell;
    foreach (cell, names) {
        auto const* name = static_cast<const char*>(lfirst(cell));
        if (std::strcmp(name, "*") == 0 || std::strcmp(name, database) == 0) return true;
    }
    return false;
}

const char* unknown_databases(bool (*exists)(const char* name)) {
    List* names = NIL;
    StringInfoData unknown;
    initStringInfo(&unknown);
    if (!split(pstrdup(options.databases), &names)) return unknown.data;
    ListCell* cell;
    foreach (cell, names) {
        auto const* name = static_cast<const char*>(lfirst(cell));
        if (std::strcmp(name, "*") == 0 || exists(name)) continue;
        appendStringInfo(&unknown, "%s\"%s\"", unknown.len > 0 ? ", " : "", name);
    }
    return unknown.data;
}

}  // namespace mau::worker

namespace mau {
namespace {

Datum wake_worker(FunctionCallInfo) {
    pg::guard([] { PreventCommandDuringRecovery("mau.wake_worker()"); });
    worker::wake_at_commit();
    return BoolGetDatum(worker::slots::state(MyDatabaseId).launcher != 0);
}

/// Lists the ticks that take long, such as `"slow" (for 75 s)`; returns how many there are.
int list_long_ticks(StringInfo list) {
    Oid databases[worker::kMaxWorkers];
    TimestampTz started[worker::kMaxWorkers];
    TimestampTz const now = GetCurrentTimestamp();
    int const count = worker::slots::long_ticks(now, databases, started, worker::kMaxWorkers);
    for (int i = 0; i < count; ++i) {
        const char* const database = get_database_name(databases[i]);
        appendStringInfo(list, "%s\"%s\" (for %d s)", i > 0 ? ", " : "", database ? database : "?",
                         static_cast<int>((now - started[i]) / USECS_PER_SEC));
    }
    return count;
}

pg::Statement pause_query(
    "INSERT INTO mau.worker_pause (paused_by) VALUES (current_user) ON CONFLICT (singleton) DO NOTHING");
pg::Statement is_paused_query("SELECT FROM mau.worker_pause");
pg::Statement resume_query(MAU_DELETE("mau.worker_pause", "true"));

/// Pauses the worker in this database. Waits for the batch that is under way, so that none runs once the
/// transaction has committed.
Datum pause_worker(FunctionCallInfo) {
    pg::take_lock(pg::LockSpace::task, worker::schedule::kBatchLock);
    return pg::with_spi([] {
        const bool paused = pause_query.write().count > 0;
        if (!paused && is_paused_query.read_latest().empty()) throw not_written("mau.worker_pause");
        return BoolGetDatum(paused);
    });
}

Datum resume_worker(FunctionCallInfo) {
    worker::wake_at_commit();
    return pg::with_spi([] { return BoolGetDatum(pg::delete_all(resume_query, "mau.worker_pause") > 0); });
}

/// The worker's state that is in no table: settings, processes, and the slot of this database.
Datum worker_state(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo);
    const worker::slots::State state = worker::slots::state(MyDatabaseId);
    const worker::Slot& slot = state.slot;
    const bool serves = pg::guard([] { return worker::serves(get_database_name(MyDatabaseId)); });
    const char* const unknown = pg::guard([] {
        return worker::unknown_databases(
            [](const char* name) { return OidIsValid(get_database_oid(name, true)); });
    });
    StringInfoData long_ticks;
    const int busy = pg::guard([&] {
        initStringInfo(&long_ticks);
        return list_long_ticks(&long_ticks);
    });
    const bool waits = state.launcher && serves && !slot.running && busy >= worker::options.max_workers &&
                       due(slot) < GetCurrentTimestamp();
    using Cell = pg::Param;
    auto time = [](bool known, TimestampTz at) { return known ? Cell::of(TimestampTzGetDatum(at)) : Cell(); };
    const std::string error = pg::readable(slot.error), unknown_names = pg::readable(unknown),
                      long_tick_names = pg::readable(long_ticks.data);
    auto text = [](const std::string& value) { return value.empty() ? Cell() : Cell(value); };
    result.add({state.exists,
                worker::options.enabled,
                serves,
                state.launcher ? Cell(static_cast<int>(state.launcher)) : Cell(),
                slot.running,
                name(slot.extension),
                time(slot.started != 0, slot.started),
                time(slot.finished != 0 && slot.extension != worker::Extension::absent, slot.finished),
                time(state.launcher && slot.started != 0, due(slot)),
                text(error),
                text(slot.error_state),
                worker::options.tick_interval,
                worker::options.refresh_interval,
                worker::options.reap_interval,
                worker::options.fold_interval,
                state.launched,
                text(unknown_names),
                text(long_tick_names),
                waits,
                worker::options.tick_timeout,
                serves && state.is_left_out});
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_wake_worker, wake_worker);
MAU_FUNCTION(mau_pause_worker, pause_worker);
MAU_FUNCTION(mau_resume_worker, resume_worker);
MAU_FUNCTION(mau_worker_state, worker_state);

}  // namespace mau
