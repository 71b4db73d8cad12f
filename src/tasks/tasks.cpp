#include "tasks/tasks.hpp"

#include "pg/locks.hpp"
#include "pg/table.hpp"

namespace mau::tasks {

namespace {

pg::Statement end_query(
    "UPDATE mau.tasks t SET last_started = s.started, last_finished = clock_timestamp(),"
    " last_duration = clock_timestamp() - s.started, last_rows = $3,"
    " runs = t.runs + 1, failures_in_a_row = 0, latest_at = greatest(t.latest_at, $4)"
    " FROM (SELECT to_timestamp($2 / 1000000.0::float8) AS started) s"
    " WHERE t.task = $1",
    {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID});

pg::Statement fail_query(
    "UPDATE mau.tasks t SET last_started = to_timestamp($2 / 1000000.0::float8),"
    " last_error = $3, last_error_sqlstate = $4, last_error_at = clock_timestamp(),"
    " failures = t.failures + 1, failures_in_a_row = t.failures_in_a_row + 1 WHERE t.task = $1",
    {TEXTOID, INT8OID, TEXTOID, TEXTOID});

pg::Statement exists_query("SELECT FROM mau.tasks t WHERE t.task = $1", {TEXTOID});

/// Raises 39P01 if a task's row was not written although it is there.
void check_written(const pg::Rows& written, const char* task) {
    if (written.count == 0 && !exists_query.read_latest(task).empty()) throw not_written("mau.tasks");
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
    check_written(end_query.write(name_, std::int64_t{started_ + pg::kEpochShift}, rows, latest), name_);
}

void Task::fail(const pg::Trouble& trouble) const {
    check_written(
        fail_query.write(name_, std::int64_t{started_ + pg::kEpochShift}, trouble.text(), trouble.state),
        name_);
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
