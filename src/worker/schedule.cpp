#include "rules/calendar.hpp"

#include "worker/schedule.hpp"

#include <algorithm>

#include "pg/locks.hpp"
#include "tasks/tasks.hpp"
#include "worker/slots.hpp"

namespace mau::worker::schedule {

namespace {

pg::Statement sync_call("SELECT what, rows FROM mau.sync(now(), $1)", {INT8OID});
pg::Statement refresh_call("SELECT what, rows FROM mau.refresh(now())");
// A snapshot before attach would record zero users, which attach would contradict a moment later.
pg::Statement nothing_query(
    "SELECT 'nothing recorded', 0::int8 WHERE NOT EXISTS (SELECT FROM mau.source)"
    " AND NOT EXISTS (SELECT FROM mau.users) AND NOT EXISTS (SELECT FROM mau.monthly_active_users)");
pg::Statement fold_call("SELECT what, rows FROM mau.fold(now(), $1)", {INT8OID});
// Reap does not return "more"; a full batch means it.
pg::Statement reap_call(
    "WITH reaped AS MATERIALIZED (SELECT what, users FROM mau.reap(now(), $1))"
    " TABLE reaped UNION ALL SELECT 'more', 1 FROM reaped HAVING sum(users) >= $1",
    {INT8OID});

pg::Statement reconcile_call("SELECT what, rows FROM mau.reconcile(now())");
pg::Statement compare_call("SELECT what, rows FROM mau.keep_comparison(now())");

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

// A run by hand counts as well as one of ours; a time in the future (the clock was set back) does not, nor a
// next try that is further off than the longest back-off.
pg::Statement begin_query(
    "UPDATE mau.tasks t SET last_started = clock_timestamp() FROM"
    " (SELECT b.last_started FROM mau.tasks b WHERE b.task = $1) before"
    " WHERE t.task = $1 AND ($2 OR CASE WHEN t.failures_in_a_row > 0 THEN"
    " coalesce(t.next_run NOT BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 hour', true) ELSE"
    " coalesce(abs(extract(epoch FROM clock_timestamp() - t.last_finished)) * 1000 >= $3, true) END)"
    " RETURNING t.last_started, before.last_started",
    {TEXTOID, BOOLOID, INT8OID});

pg::Statement handled_query("SELECT coalesce(last_rows, 0) FROM mau.tasks WHERE task = $1", {TEXTOID});

// Nothing was done: restores the row as it was before the run.
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

// A tick that writes into tables which are being restored would make the restore fail on its rows. pg_dump
// loads mau.users last, and sets its sequence after all tables; with jobs in parallel other tables may still
// be loaded then, by a COPY that is under way. application_name proves nothing: any role can set it.
pg::Statement owner_copies_query(
    "SELECT EXISTS (SELECT FROM pg_stat_progress_copy p JOIN pg_stat_activity a ON a.pid = p.pid"
    " JOIN pg_class c ON c.oid = p.relid JOIN pg_extension e ON e.extnamespace = c.relnamespace"
    " WHERE e.extname = 'mau' AND p.datid = a.datid AND a.datname = current_database()"
    " AND p.command = 'COPY FROM' AND pg_has_role(a.usesysid, e.extowner, 'USAGE'))");

pg::Statement paused_query("SELECT EXISTS (SELECT FROM mau.worker_pause)");

pg::Statement state_query(
    "SELECT CASE WHEN EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srrelid = 'mau.users'::regclass)"
    // A dump sets the sequence after all tables. Rows with numbers that it has not drawn prove nothing: a
    // role with INSERT on mau.users can make them.
    " THEN 'restoring' WHEN EXISTS (SELECT FROM mau.users) THEN"
    " CASE WHEN (SELECT s.is_called FROM mau.users_user_no_seq s) THEN 'whole' ELSE 'restoring' END"
    " WHEN EXISTS (SELECT FROM mau.monthly_active_users)"
    " OR EXISTS (SELECT FROM mau.active_days) OR EXISTS (SELECT FROM mau.visits)"
    " THEN 'restoring' WHEN NOT EXISTS (SELECT FROM mau.source) THEN 'empty'"
    // mau.tasks is not dumped: attach and sync note there that the homeserver's tables were read here.
    " WHEN EXISTS (SELECT FROM mau.tasks t WHERE t.task = 'sync' AND t.last_finished IS NOT NULL) THEN "
    "'whole'"
    " ELSE 'restoring' END");

constexpr int kDailyInterval = 86400;  // seconds; mau.health() has it, too

pg::Rows refresh() {
    const pg::Rows nothing = nothing_query.read_latest();
    return nothing.empty() ? refresh_call.write() : nothing;
}

}  // namespace

const ScheduledTask tasks[kTasks] = {
    {"sync", "mau.sync(now(), batch_size)", [](std::int64_t size) { return sync_call.write(size); },
     [] { return 0; }, true},
    {"fold", "mau.fold(now(), batch_size)", [](std::int64_t size) { return fold_call.write(size); },
     [] { return options.fold_interval; }, false},
    {"refresh", "mau.refresh(now())", [](std::int64_t) { return refresh(); },
     [] { return options.refresh_interval; }, true},
    {"reap", "mau.reap(now(), batch_size)", [](std::int64_t size) { return reap_call.write(size); },
     [] { return options.reap_interval; }, false},
    {"reconcile", "mau.reconcile(now())", [](std::int64_t) { return reconcile_call.write(); },
     [] { return kDailyInterval; }, false},
    {"compare", "mau.keep_comparison(now())", [](std::int64_t) { return compare_call.write(); },
     [] { return kDailyInterval; }, true},
};

std::optional<Begun> begin(const ScheduledTask& task, bool urgent) {
    const std::int64_t tick = options.tick_interval;
    // Runs a task half a tick early rather than half a tick late.
    const std::int64_t age = std::max<std::int64_t>(0, task.interval() * 1000 - tick * 500);
    know_query.write(task.name);
    cut_off_query.write(task.name, tick);
    const pg::Rows row = begin_query.write(task.name, urgent, age);
    if (row.empty()) return std::nullopt;
    return Begun{row.at(0, 0).integer(), row.at(0, 1).optional_integer()};
}

Batch run_batch(const ScheduledTask& task) {
    Batch batch;
    batch.paused = !pg::try_lock(pg::LockSpace::task, kBatchLock) || is_paused();
    if (batch.paused) return batch;
    const pg::Rows state = state_query.read_latest();
    batch.restoring = state.at(0, 0).text() == "restoring";
    // Nothing to do yet: the task writes nothing, because a restore may begin before it would.
    const bool empty = state.at(0, 0).text() == "empty";
    batch.idle = empty && task.needs_users;
    if (empty && !batch.idle) {
        const tasks::Task run(task.name);
        if (run.begin()) run.end(0);
    }
    if (batch.restoring || empty) return batch;
    const pg::Rows rows = task.run(options.batch_size);
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const std::string_view what = rows.at(i, 0).text();
        if (what == "busy") batch.busy = true;
        if (what == "not attached" || what == "nothing recorded") batch.idle = true;
        if (what == "trouble") batch.trouble = true;
        if (what == "more") batch.more = true;
    }
    const pg::Rows noted = handled_query.write(task.name);
    if (!noted.empty()) batch.handled = noted.at(0, 0).integer();
    return batch;
}

void end(const ScheduledTask& task, const Begun& begun, const Batch& last, std::int64_t handled) {
    const std::int64_t tick = options.tick_interval;
    if (last.busy || last.idle || last.restoring || last.paused)
        undo_query.write(task.name, begun.at, begun.before, last.idle);
    else if (last.trouble)
        put_off_query.write(task.name, tick);
    else
        end_query.write(task.name, begun.at, handled, last.more,
                        std::max<std::int64_t>(tick, task.interval()));
}

void fail(const ScheduledTask& task, const pg::Trouble& trouble) {
    fail_query.write(task.name, std::int64_t{options.tick_interval}, trouble.text(), trouble.state);
}

bool owner_copies() {
    return owner_copies_query.read_latest().at(0, 0).boolean();
}

bool is_paused() {
    return paused_query.read_latest().at(0, 0).boolean();
}

}  // namespace mau::worker::schedule
