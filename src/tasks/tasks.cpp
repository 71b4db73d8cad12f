#include "tasks/tasks.hpp"

#include "pg/locks.hpp"
#include "pg/table.hpp"

namespace mau::tasks {

namespace {

// A row that an administrator has deleted is made again: health and past instants need it.
pg::Statement end_query(
    "INSERT INTO mau.tasks AS t (task, last_started, last_finished, last_duration, last_rows, runs, "
    "latest_at)"
    " SELECT $1, s.started, clock_timestamp(), clock_timestamp() - s.started, $3, 1, $4"
    " FROM (SELECT to_timestamp($2 / 1000000.0::float8) AS started) s"
    " ON CONFLICT (task) DO UPDATE SET last_started = EXCLUDED.last_started,"
    " last_finished = EXCLUDED.last_finished, last_duration = EXCLUDED.last_duration,"
    " last_rows = EXCLUDED.last_rows, runs = t.runs + 1, failures_in_a_row = 0,"
    " latest_at = greatest(t.latest_at, EXCLUDED.latest_at)",
    {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID});

pg::Statement fail_query(
    "INSERT INTO mau.tasks AS t (task, last_started, last_error, last_error_sqlstate, last_error_at, "
    "failures,"
    "  failures_in_a_row)"
    " VALUES ($1, to_timestamp($2 / 1000000.0::float8), $3, $4, clock_timestamp(), 1, 1)"
    " ON CONFLICT (task) DO UPDATE SET last_started = EXCLUDED.last_started,"
    " last_error = EXCLUDED.last_error, last_error_sqlstate = EXCLUDED.last_error_sqlstate,"
    " last_error_at = EXCLUDED.last_error_at,"
    " failures = t.failures + 1, failures_in_a_row = t.failures_in_a_row + 1",
    {TEXTOID, INT8OID, TEXTOID, TEXTOID});

/// Raises 39P01 if a task's row was not written.
void check_written(const pg::Rows& written) {
    if (written.count == 0) throw not_written("mau.tasks");
}

}  // namespace

Task::Task(const char* name) : name_(name), started_(GetCurrentTimestamp()) {}

bool Task::begin() const {
    return pg::try_lock(pg::LockSpace::task, pg::hash(name_));
}

void Task::wait() const {
    pg::take_lock(pg::LockSpace::task, pg::hash(name_));
}

void Task::end(std::int64_t rows, std::optional<Instant> at) const {
    std::optional<std::int64_t> latest;
    if (at) latest = pg::to_timestamp(*at);
    check_written(end_query.write(name_, std::int64_t{started_ + pg::kEpochShift}, rows, latest));
}

void Task::fail(const pg::Trouble& trouble) const {
    check_written(
        fail_query.write(name_, std::int64_t{started_ + pg::kEpochShift}, trouble.text(), trouble.state));
}

}  // namespace mau::tasks

namespace mau {
namespace {

Datum replace_task(FunctionCallInfo fcinfo) {
    TriggerData* const trigger = pg::trigger_of(fcinfo);
    if (std::string_view(RelationGetRelationName(trigger->tg_relation)) != "tasks" ||
        !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
        !TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
        throw Error(sqlstate::trigger_protocol_violated,
                    "mau.replace_task() is for rows inserted into mau.tasks", {}, "Drop that trigger.");
    // Rows of our own have ON CONFLICT: if an administrator has enabled the trigger for them, they stay.
    if (SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
        return PointerGetDatum(trigger->tg_trigtuple);
    const std::string_view task = pg::guard([&]() -> std::string_view {
        bool null = false;
        Datum const name =
            heap_getattr(trigger->tg_trigtuple, 1, RelationGetDescr(trigger->tg_relation), &null);
        return null ? std::string_view() : pg::view_of(DatumGetTextPP(name));
    });
    pg::with_spi([&] {
        static pg::Statement query("DELETE FROM mau.tasks t WHERE t.task = $1", {TEXTOID});
        query.write(task);
    });
    return PointerGetDatum(trigger->tg_trigtuple);
}

}  // namespace

MAU_FUNCTION(mau_replace_task, replace_task);

}  // namespace mau
