// A tick: one short run in one database. The due tasks are run in order (sync, fold, refresh, reap,
// reconcile, compare), each in three steps that are transactions of their own, so that it can be stopped
// anywhere and the next tick goes on there. After mau.tick_timeout the current step is cancelled and counted
// as a failure, and the tick ends:
//
//   begin    mau.tasks says that it was started; a run that was begun and never ended is counted as a failure
//   batches  the task's SQL function, until there is no more or the tick's time is up
//   end      mau.tasks says how it went and when it is next; after an error that is the back-off
//
// Every transaction locks the extension against DROP EXTENSION without waiting for one, looks whether it is
// still there, and works as its owner under SECURITY_RESTRICTED_OPERATION (rule R10).
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "pg/locks.hpp"
#include "pg/shmem.hpp"
#include "pg/spi.hpp"
#include "worker/fleet.hpp"
#include "worker/schedule.hpp"
#include "worker/slots.hpp"

namespace mau::worker {

namespace {

constexpr std::string_view kVersion = "1.0";  // the extension's SQL that this library speaks
constexpr const char* kLockTimeout = "5s";

/// Whether the tick was cancelled because it took longer than mau.tick_timeout.
volatile sig_atomic_t timed_out = false;

/// Cancels the tick's statement; called by the timeout's signal.
void on_timeout() {
    timed_out = true;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

// --- Transactions ----------------------------------------------------------------------------------------

/// The result of locking the extension.
enum class Locking { done, absent, other_version, changing };

pg::Statement extension_query(
    "SELECT e.extowner::int8, e.extversion = $2 FROM pg_extension e WHERE e.oid = $1::oid",
    {INT8OID, TEXTOID});

// As superuser only catalogs are read, because the owner may have replaced mau's tables.
enum class As { owner, superuser };

/// Locks the extension for the transaction, and becomes its owner unless `who` is superuser.
Locking lock_extension(As who) {
    const Oid extension = pg::guard([]() -> Oid {
        Oid const found = get_extension_oid("mau", true);
        if (!OidIsValid(found)) return found;
        // DROP EXTENSION holds this lock to its end; ALTER EXTENSION may.
        if (!pg::compat::try_lock_object(ExtensionRelationId, found, AccessShareLock)) return InvalidOid - 1;
        return found;
    });
    if (!OidIsValid(extension)) return Locking::absent;
    if (extension == InvalidOid - 1) return Locking::changing;
    const pg::Rows row = extension_query.read_latest(std::int64_t{extension}, kVersion);
    if (row.empty()) return Locking::absent;
    if (!row.at(0, 1).boolean()) return Locking::other_version;
    if (who == As::owner)
        SetUserIdAndSecContext(static_cast<Oid>(row.at(0, 0).integer()), SECURITY_RESTRICTED_OPERATION);
    return Locking::done;
}

struct Ending {
    Locking locking = Locking::done;
    std::optional<pg::Trouble> trouble;  // the transaction was rolled back
};

/// Runs `work` in a transaction of its own if the extension can be locked.
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
            ending.locking = lock_extension(who);
            if (ending.locking == Locking::done) work();
        });
        pg::guard([&] {
            AtEOXact_GUC(false, guc_level);  // settings made by triggers and functions
            SetUserIdAndSecContext(self, context);
            PopActiveSnapshot();
            CommitTransactionCommand();
            pgstat_report_activity(STATE_IDLE, nullptr);
        });
    } catch (...) {
        ending.trouble = pg::describe_current_exception();
    }
    if (ending.trouble && timed_out && ending.trouble->state == "57014")
        ending.trouble = pg::Trouble{
            "57014", "it took longer than mau.tick_timeout (" + std::to_string(options.tick_timeout) + " s)",
            "See the server's log for what waits, or raise mau.tick_timeout."};
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

// --- The tick --------------------------------------------------------------------------------------------

class Tick {
  public:
    void run();

  private:
    bool look_around();
    bool run(const schedule::ScheduledTask& task);
    bool passes(const schedule::ScheduledTask* task, const Ending& ending);
    bool may_go_on();
    void report();
    bool publishes(const Slot& before);
    void publish();

    const TimestampTz started_ = GetCurrentTimestamp();
    Extension extension_ = Extension::present;
    bool more_ = false;
    bool has_failed_ = false;  // a task, or a transaction between them
    pg::Trouble trouble_;      // an error that mau.tasks does not have
    char database_[NAMEDATALEN] = "";
};

bool extension_is_there(const Ending& ending) {
    return ending.trouble || ending.locking != Locking::absent;
}

/// Whether there is work here now; notes why not.
bool Tick::look_around() {
    bool restoring = false;
    const Ending ending = transact(
        "mau: is the extension here?",
        [&] {
            strlcpy(database_, pg::guard([] { return get_database_name(MyDatabaseId); }), sizeof database_);
            restoring = schedule::owner_copies();
        },
        As::superuser);
    if (extension_is_there(ending) && !slots::enter(MyDatabaseId)) {
        pg::guard([&] {
            ereport(LOG, (errmsg("mau's worker leaves out database \"%s\": %d other databases have mau, as "
                                 "many as it serves",
                                 database_, pg::kMaxDatabases),
                          errhint("Name the databases to serve in mau.databases.")));
        });
        return false;
    }
    if (!passes(nullptr, ending)) return false;
    bool paused = false;
    if (!restoring &&
        !passes(nullptr, transact("mau: is it paused?", [&] { paused = schedule::is_paused(); })))
        return false;
    if (restoring) extension_ = Extension::restoring;
    if (paused) extension_ = Extension::paused;
    if (restoring || paused) return false;
    if (DefaultXactReadOnly)
        trouble_ = {"25006", "the database is read-only (default_transaction_read_only)", ""};
    return !DefaultXactReadOnly;
}

/// Whether the tick goes on after a transaction (of a task, unless null); if not, notes why. An error goes to
/// mau.tasks and to the log.
bool Tick::passes(const schedule::ScheduledTask* task, const Ending& ending) {
    if (!ending.trouble) {
        if (ending.locking == Locking::absent) extension_ = Extension::absent;
        if (ending.locking == Locking::other_version) extension_ = Extension::other_version;
        return ending.locking == Locking::done;
    }
    has_failed_ = true;
    const pg::Trouble& trouble = *ending.trouble;
    Ending noted{Locking::done, trouble};
    if (task) noted = transact("mau: note a failure", [&] { schedule::fail(*task, trouble); });
    if (!noted.trouble && noted.locking != Locking::done) return passes(task, noted);  // it was dropped
    const std::string text = trouble.text();
    pg::guard([&, message = text.c_str(), state = trouble.state.c_str(), hint = trouble.hint.c_str()] {
        ereport(LOG, (errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
                      errmsg("mau's %s failed in database \"%s\": %s", task ? task->name : "worker",
                             database_, message),
                      hint[0] ? errhint("%s", hint) : 0));
    });
    if (noted.trouble) trouble_ = *noted.trouble;
    return !noted.trouble;
}

/// Whether there is time left, and the worker was not asked to stop.
bool Tick::may_go_on() {
    pg::guard([] {
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
    });
    return options.enabled && !timed_out && GetCurrentTimestamp() - started_ < kTickBudget;
}

/// Runs a task if it is due. Returns whether the tick goes on.
bool Tick::run(const schedule::ScheduledTask& task) {
    const bool urgent = slots::state(MyDatabaseId).slot.urgent;
    std::optional<schedule::Begun> begun;
    Ending ending = transact("mau: begin a task", [&] { begun = schedule::begin(task, urgent); });
    if (ending.trouble || ending.locking != Locking::done) return passes(&task, ending);
    if (!begun) return true;

    schedule::Batch batch;
    std::int64_t handled = 0;
    do {
        ending = transact(task.call, [&] { batch = schedule::run_batch(task); });
        if (ending.trouble || ending.locking != Locking::done) return passes(&task, ending);
        handled += batch.handled;
    } while (batch.more && !batch.trouble && may_go_on());
    has_failed_ = has_failed_ || batch.trouble;
    more_ = more_ || (batch.more && !batch.trouble);

    ending = transact("mau: end a task", [&] { schedule::end(task, *begun, batch, handled); });
    if (batch.restoring) extension_ = Extension::restoring;
    if (batch.paused) extension_ = Extension::paused;
    return passes(&task, ending) && !batch.restoring && !batch.paused;
}

void Tick::report() {
    if (extension_ == Extension::other_version) {
        trouble_ = {"0A000", "extension and library are of different versions",
                    "Run ALTER EXTENSION mau UPDATE, or restart the server with the newer library."};
        pg::guard([&, message = trouble_.message.c_str(), hint = trouble_.hint.c_str()] {
            ereport(LOG, (errmsg("mau's worker skips database \"%s\": %s", database_, message),
                          errhint("%s", hint)));
        });
    }
    std::string text = trouble_.message;
    if (!trouble_.hint.empty()) text += "; " + trouble_.hint;
    const Slot before = slots::state(MyDatabaseId).slot;
    slots::note(MyDatabaseId, extension_, trouble_.state.c_str(), text.c_str());
    if (publishes(before)) publish();
    slots::report(MyDatabaseId, extension_, more_, trouble_.state.c_str(), text.c_str());
}

/// Whether health and figures are read now: every mau.refresh_interval, because that costs more than the rest
/// of a tick with nothing new; at once where something has changed or is wrong.
bool Tick::publishes(const Slot& before) {
    if (before.database != MyDatabaseId) return false;
    if (extension_ != Extension::present && extension_ != Extension::paused) return false;
    if (has_failed_ || before.urgent || before.error[0] || before.extension != extension_) return true;
    const Figures last = slots::published(MyDatabaseId);
    const std::string_view health = last.health;
    if (health != "ok" && health != "idle" && health != "paused") return true;
    const TimestampTz age = GetCurrentTimestamp() - last.at;
    return age < 0 ||
           age >= options.refresh_interval * USECS_PER_SEC - options.tick_interval * USECS_PER_SEC / 2;
}

/// Publishes the health and the figures for mau.fleet().
void Tick::publish() {
    if (timed_out) {
        slots::publish_failure(MyDatabaseId, "the last tick took longer than mau.tick_timeout");
        return;
    }
    Figures figures = {};
    const Ending ending = transact("mau: publish the figures", [&] { figures = fleet::read_figures(); });
    if (ending.trouble)
        slots::publish_failure(MyDatabaseId,
                               ("the figures cannot be read: " + ending.trouble->text()).c_str());
    else if (ending.locking == Locking::done)
        slots::publish(MyDatabaseId, figures);
}

void Tick::run() {
    if (look_around())
        for (const schedule::ScheduledTask& task : schedule::tasks)
            if (!options.enabled || timed_out || !run(task)) break;
    report();
}

/// Sets up the session so that settings of the database or of the owner have no effect on the tick.
void prepare_session() {
    auto set = [](const char* name, const char* value) {
        SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
    };
    set("search_path", "pg_catalog, pg_temp");
    set("statement_timeout", "0");
    if (GetConfigOption("transaction_timeout", true, false)) set("transaction_timeout", "0");  // from 17 on
    // An admin's open transaction on our tables does not hold up the other databases.
    set("lock_timeout", kLockTimeout);
    set("idle_in_transaction_session_timeout", "0");
    set("default_transaction_isolation", "read committed");
    set("default_transaction_deferrable", "off");
    set("session_replication_role", "origin");
    set("row_security", "on");
    // A synchronous standby that is missing does not hold up the work: all of it can be done again.
    set("synchronous_commit", "local");
}

/// Bounds the tick by mau.tick_timeout.
void start_timeout() {
    enable_timeout_after(RegisterTimeout(USER_TIMEOUT, on_timeout), options.tick_timeout * 1000);
    // libpq cannot be interrupted while postgres_fdw (before 16) or dblink connect; their own connect_timeout
    // goes before this one.
    constexpr int kConnectTimeout = 30;
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", Max(2, Min(kConnectTimeout, options.tick_timeout)));
    setenv("PGCONNECT_TIMEOUT", seconds, 0);
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
        mau::pg::guard([] {
            mau::worker::prepare_session();
            mau::worker::start_timeout();
        });
        // A tick that outlived its launcher may still be here.
        if (mau::pg::try_session_lock(mau::pg::LockSpace::task, 0)) mau::worker::Tick().run();
    });
}
}
