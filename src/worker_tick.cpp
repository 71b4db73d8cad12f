// A tick: one look at one database. The due tasks are run in order, sync, refresh, reap, each in three steps
// that are transactions of their own, so that it can be stopped anywhere and the next tick goes on from
// there:
//
//   begin    mau.tasks says that it was started; a run that was begun and never ended is counted as a failure
//   batches  the task's SQL function, until there is no more or the tick's time is up
//   end      mau.tasks says how it went and when it is next; after an error that is the back-off
//
// Every transaction locks the extension against DROP EXTENSION without waiting for one, looks whether it is
// still there, and works as its owner under SECURITY_RESTRICTED_OPERATION (law L10). search_path is
// pg_catalog, so names need no schema here.
#include <algorithm>

#include "pg/spi.hpp"
#include "pg/table.hpp"
#include "worker_slots.hpp"

namespace mau::worker {

namespace {

constexpr std::string_view kVersion = "1.0";         // the extension's SQL that this library speaks
constexpr std::int64_t kBudget = 2 * USECS_PER_SEC;  // then the launcher looks who else is due
constexpr const char* kLockTimeout = "5s";

// --- Transactions
// -----------------------------------------------------------------------------------------------

/// How a transaction found the extension.
enum class Door { open, absent, other_version, changing };

pg::Statement extension_query(
    "SELECT e.extowner::int8, e.extversion = $2 FROM pg_extension e WHERE e.oid = $1::oid",
    {INT8OID, TEXTOID});

enum class As { owner, ourselves };

/// Locks the extension for the transaction, and becomes its owner unless told to stay who we are.
Door open_door(As who) {
    const Oid extension = pg::guard([]() -> Oid {
        Oid const found = get_extension_oid("mau", true);
        if (!OidIsValid(found)) return found;
        // Whoever drops it holds this lock to the end; who alters it may, too.
        if (!ConditionalLockDatabaseObject(ExtensionRelationId, found, 0, AccessShareLock))
            return InvalidOid - 1;
        return found;
    });
    if (!OidIsValid(extension)) return Door::absent;
    if (extension == InvalidOid - 1) return Door::changing;
    const pg::Rows row = extension_query.read_latest(std::int64_t{extension}, kVersion);
    if (row.empty()) return Door::absent;
    if (!row.at(0, 1).boolean()) return Door::other_version;
    if (who == As::owner)
        SetUserIdAndSecContext(static_cast<Oid>(row.at(0, 0).integer()), SECURITY_RESTRICTED_OPERATION);
    return Door::open;
}

struct Ending {
    Door door = Door::open;
    std::optional<pg::Trouble> trouble;  // the transaction was rolled back
};

/// Runs `work` in a transaction of its own if the extension can be had.
template <class Work>
Ending transact(const char* activity, Work&& work, As who = As::owner) {
    Ending ending;
    try {
        Oid self = InvalidOid;
        int context = 0, guc_level = 0;
        pg::guard([&] {
            SetCurrentStatementStartTimestamp();
            pgstat_report_activity(STATE_RUNNING, activity);
            StartTransactionCommand();
            PushActiveSnapshot(GetTransactionSnapshot());
            GetUserIdAndSecContext(&self, &context);
            guc_level = NewGUCNestLevel();
        });
        pg::with_spi([&] {
            ending.door = open_door(who);
            if (ending.door == Door::open) work();
        });
        pg::guard([&] {
            AtEOXact_GUC(false, guc_level);  // whatever triggers and such have set
            SetUserIdAndSecContext(self, context);
            PopActiveSnapshot();
            CommitTransactionCommand();
            pgstat_report_activity(STATE_IDLE, nullptr);
        });
    } catch (...) {
        ending.trouble = pg::describe_current_exception();
    }
    if (ending.trouble)
        pg::guard([] {
            HOLD_INTERRUPTS();
            QueryCancelPending = false;  // it has been obeyed
            AbortCurrentTransaction();
            pgstat_report_activity(STATE_IDLE, nullptr);
            RESUME_INTERRUPTS();
        });
    return ending;
}

// --- Tasks
// ------------------------------------------------------------------------------------------------------

/// What a batch of a task did.
struct Batch {
    std::int64_t handled = 0;  // as its function noted in mau.tasks
    bool busy = false;         // another session is at it
    bool idle = false;         // there is nothing to do at all
    bool trouble = false;      // noted by the function itself
    bool more = false;
};

struct Task {
    const char* name;
    const char* call;  // as pg_stat_activity shows it
    pg::Rows (*run)(std::int64_t batch_size);
    int (*interval)();  // seconds; 0: at every tick
};

pg::Statement sync_call("SELECT what, rows FROM mau.sync(now(), $1)", {INT8OID});
pg::Statement refresh_call("SELECT what, rows FROM mau.refresh(now())");
// The reaper does not say "more"; a full batch says it.
pg::Statement reap_call(
    "WITH reaped AS MATERIALIZED (SELECT what, users FROM mau.reap(now(), $1))"
    " TABLE reaped UNION ALL SELECT 'more', 1 FROM reaped HAVING sum(users) >= $1",
    {INT8OID});

const Task kTasks[] = {
    {"sync", "mau.sync(now(), batch_size)", [](std::int64_t size) { return sync_call.write(size); },
     [] { return 0; }},
    {"refresh", "mau.refresh(now())", [](std::int64_t) { return refresh_call.write(); },
     [] { return options.refresh_interval; }},
    {"reap", "mau.reap(now(), batch_size)", [](std::int64_t size) { return reap_call.write(size); },
     [] { return options.reap_interval; }},
};

// One tick interval, doubled with every failure, up to an hour; as in the row before it is changed.
#define MAU_BACK_OFF(interval, failures) \
    "least(make_interval(hours => 1), make_interval(secs => " interval ") * 2 ^ least(" failures ", 20))"

pg::Statement know_query("INSERT INTO mau.tasks (task) VALUES ($1) ON CONFLICT DO NOTHING", {TEXTOID});

pg::Statement cut_off_query(
    "UPDATE mau.tasks SET last_error = 'a run was cut off: the server or the worker was stopped in the middle of it',"
    " last_error_sqlstate = '57P02', last_error_at = clock_timestamp(), failures = failures + 1,"
    " failures_in_a_row = failures_in_a_row + 1, next_run = clock_timestamp() +"
    " CASE WHEN failures_in_a_row < 2 THEN interval '0' ELSE " MAU_BACK_OFF("$2", "failures_in_a_row") " END"
    " WHERE task = $1 AND last_started > coalesce(greatest(last_finished, last_error_at), '-infinity')",
    {TEXTOID, INT8OID});

// A run by hand counts as well as one of ours; a time in the future (the clock was set back) does not.
pg::Statement begin_query(
    "UPDATE mau.tasks t SET last_started = clock_timestamp() FROM"
    " (SELECT b.last_started FROM mau.tasks b WHERE b.task = $1) before"
    " WHERE t.task = $1 AND ($2 OR CASE WHEN t.failures_in_a_row > 0 THEN"
    " coalesce(t.next_run <= clock_timestamp(), true) ELSE"
    " coalesce(abs(extract(epoch FROM clock_timestamp() - t.last_finished)) * 1000 >= $3, true) END)"
    " RETURNING t.last_started, before.last_started",
    {TEXTOID, BOOLOID, INT8OID});

pg::Statement handled_query("SELECT coalesce(last_rows, 0) FROM mau.tasks WHERE task = $1", {TEXTOID});

// Nothing was done: as if it had not been begun.
pg::Statement undo_query(
    "UPDATE mau.tasks SET last_started = $3, failures_in_a_row = CASE WHEN $4 THEN 0 ELSE failures_in_a_row "
    "END,"
    " next_run = CASE WHEN $4 THEN NULL ELSE next_run END"
    " WHERE task = $1 AND last_started = $2",
    {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID});

pg::Statement end_query(
    "UPDATE mau.tasks SET last_started = $2, last_finished = clock_timestamp(),"
    " last_duration = clock_timestamp() - $2, last_rows = $3, failures_in_a_row = 0,"
    " next_run = CASE WHEN $4 THEN clock_timestamp() ELSE $2 + make_interval(secs => $5) END"
    " WHERE task = $1",
    {TEXTOID, TIMESTAMPTZOID, INT8OID, BOOLOID, INT8OID});

pg::Statement put_off_query("UPDATE mau.tasks SET next_run = clock_timestamp() + " MAU_BACK_OFF(
                                "$2", "failures_in_a_row - 1") " WHERE task = $1",
                            {TEXTOID, INT8OID});

pg::Statement fail_query(
    "UPDATE mau.tasks SET last_error = $3, last_error_sqlstate = $4, last_error_at = clock_timestamp(),"
    " failures = failures + 1, failures_in_a_row = failures_in_a_row + 1,"
    " next_run = clock_timestamp() + " MAU_BACK_OFF("$2", "failures_in_a_row") " WHERE task = $1",
    {TEXTOID, INT8OID, TEXTOID, TEXTOID});

#undef MAU_BACK_OFF

/// When a run was begun, and what mau.tasks said of the one before.
struct Begun {
    std::int64_t at;
    std::optional<std::int64_t> before;
};

/// Begins a run if it is due, or if somebody asked for it.
std::optional<Begun> begin(const Task& task, bool urgent) {
    const std::int64_t tick = options.tick_interval;
    // Half a tick early rather than half a tick late.
    const std::int64_t age = std::max<std::int64_t>(0, task.interval() * 1000 - tick * 500);
    know_query.write(task.name);
    cut_off_query.write(task.name, tick);
    const pg::Rows row = begin_query.write(task.name, urgent, age);
    if (row.empty()) return std::nullopt;
    return Begun{row.at(0, 0).integer(), row.at(0, 1).optional_integer()};
}

Batch run_batch(const Task& task) {
    Batch batch;
    const pg::Rows rows = task.run(options.batch_size);
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const std::string_view what = rows.at(i, 0).text();
        if (what == "busy") batch.busy = true;
        if (what == "not attached") batch.idle = true;
        if (what == "trouble") batch.trouble = true;
        if (what == "more") batch.more = true;
    }
    const pg::Rows noted = handled_query.write(task.name);
    if (!noted.empty()) batch.handled = noted.at(0, 0).integer();
    return batch;
}

void end(const Task& task, const Begun& begun, const Batch& last, std::int64_t handled) {
    const std::int64_t tick = options.tick_interval;
    if (last.busy || last.idle)
        undo_query.write(task.name, begun.at, begun.before, last.idle);
    else if (last.trouble)
        put_off_query.write(task.name, tick);
    else
        end_query.write(task.name, begun.at, handled, last.more,
                        std::max<std::int64_t>(tick, task.interval()));
}

// --- The tick
// ---------------------------------------------------------------------------------------------------

class Tick {
  public:
    void run();

  private:
    bool look_around();
    bool run(const Task& task);
    bool passes(const char* task, const Ending& ending);
    bool may_go_on();
    void report();

    const TimestampTz started_ = GetCurrentTimestamp();
    Extension extension_ = Extension::present;
    bool more_ = false;
    pg::Trouble trouble_;  // what mau.tasks could not be told
    char database_[NAMEDATALEN] = "";
};

// A tick that writes into tables which are being restored makes the restore fail: pg_restore says who it is,
// and psql with a dump is seen by its COPY.
pg::Statement restoring_query(
    "SELECT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = current_database()"
    " AND (a.application_name = 'pg_restore' OR a.query LIKE 'COPY mau.%FROM stdin%'"
    " AND (a.state <> 'idle' OR a.state_change > clock_timestamp() - interval '10 s')))");

/// Whether there is anything to do here now; says why not.
bool Tick::look_around() {
    bool restoring = false;
    const Ending ending = transact(
        "mau: is the extension here?",
        [&] {
            strlcpy(database_, pg::guard([] { return get_database_name(MyDatabaseId); }), sizeof database_);
            restoring = restoring_query.read_latest().at(0, 0).boolean();
        },
        As::ourselves);
    if (!passes(nullptr, ending)) return false;
    if (restoring) extension_ = Extension::restoring;
    if (restoring) return false;
    if (DefaultXactReadOnly)
        trouble_ = {"25006", "the database is read-only (default_transaction_read_only)", ""};
    return !DefaultXactReadOnly;
}

/// Whether the tick goes on after a transaction (of a task, unless null); if not, notes why. An error goes to
/// mau.tasks and to the log.
bool Tick::passes(const char* task, const Ending& ending) {
    if (!ending.trouble) {
        if (ending.door == Door::absent) extension_ = Extension::absent;
        if (ending.door == Door::other_version) extension_ = Extension::other_version;
        return ending.door == Door::open;
    }
    const pg::Trouble& trouble = *ending.trouble;
    Ending noted{Door::open, trouble};
    if (task)
        noted = transact("mau: note a failure", [&] {
            fail_query.write(task, std::int64_t{options.tick_interval}, trouble.message, trouble.state);
        });
    if (!noted.trouble && noted.door != Door::open) return passes(task, noted);  // dropped: that is why
    pg::guard([&, message = trouble.message.c_str(), state = trouble.state.c_str(),
               hint = trouble.hint.c_str()] {
        ereport(LOG,
                (errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
                 errmsg("mau's %s failed in database \"%s\": %s", task ? task : "worker", database_, message),
                 hint[0] ? errhint("%s", hint) : 0));
    });
    if (noted.trouble) trouble_ = *noted.trouble;
    return !noted.trouble;
}

/// Whether there is time, and nobody wants the worker to stop.
bool Tick::may_go_on() {
    pg::guard([] {
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
    });
    return options.enabled && GetCurrentTimestamp() - started_ < kBudget;
}

/// Runs a task if it is due. Answers whether the tick goes on.
bool Tick::run(const Task& task) {
    const bool urgent = slots::look(MyDatabaseId).urgent;
    std::optional<Begun> begun;
    Ending ending = transact("mau: begin a task", [&] { begun = begin(task, urgent); });
    if (ending.trouble || ending.door != Door::open) return passes(task.name, ending);
    if (!begun) return true;

    Batch batch;
    std::int64_t handled = 0;
    do {
        ending = transact(task.call, [&] { batch = run_batch(task); });
        if (ending.trouble || ending.door != Door::open) return passes(task.name, ending);
        handled += batch.handled;
    } while (batch.more && !batch.trouble && may_go_on());
    more_ = more_ || (batch.more && !batch.trouble);

    ending = transact("mau: end a task", [&] { end(task, *begun, batch, handled); });
    return passes(task.name, ending);
}

void Tick::report() {
    if (extension_ == Extension::other_version) {
        trouble_ = {"0A000", "extension and library are of different versions",
                    "Run ALTER EXTENSION mau UPDATE, or restart the server with the newer library."};
        pg::guard([&, message = trouble_.message.c_str(), hint = trouble_.hint.c_str()] {
            ereport(LOG, (errmsg("mau's worker leaves database \"%s\" alone: %s", database_, message),
                          errhint("%s", hint)));
        });
    }
    std::string text = trouble_.message;
    if (!trouble_.hint.empty()) text += "; " + trouble_.hint;
    slots::report(MyDatabaseId, extension_, more_, trouble_.state.c_str(), text.c_str());
}

void Tick::run() {
    if (look_around())
        for (const Task& task : kTasks)
            if (!options.enabled || !run(task)) break;
    report();
}

/// Makes the session one in which nothing of the database's or its owner's settings changes what we do.
void prepare_session() {
    auto set = [](const char* name, const char* value) {
        SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
    };
    set("search_path", "pg_catalog, pg_temp");
    set("statement_timeout", "0");
    set("lock_timeout",
        kLockTimeout);  // an admin's open transaction on our tables does not hold up the others
    set("idle_in_transaction_session_timeout", "0");
    set("default_transaction_isolation", "read committed");
    set("default_transaction_deferrable", "off");
    set("session_replication_role", "origin");
    set("row_security", "on");
}

}  // namespace
}  // namespace mau::worker

extern "C" {
PGDLLEXPORT void mau_tick_main(Datum);
void mau_tick_main(Datum database) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);
    mau::pg::enter([] {
        mau::pg::guard([] { mau::worker::prepare_session(); });
        // A tick that outlived its launcher may still be here.
        if (mau::pg::try_session_lock(mau::pg::LockSpace::task, 0)) mau::worker::Tick().run();
    });
}
}
