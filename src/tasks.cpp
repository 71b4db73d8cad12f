#include "tasks.hpp"

#include "pg/table.hpp"

namespace mau::tasks {

namespace {

pg::Statement end_query(
    "UPDATE mau.tasks t SET last_started = s.started, last_finished = pg_catalog.clock_timestamp(),"
    " last_duration = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.started, last_rows = $3,"
    " runs = t.runs OPERATOR(pg_catalog.+) 1, failures_in_a_row = 0"
    " FROM (SELECT pg_catalog.to_timestamp($2 OPERATOR(pg_catalog./) 1000000.0::pg_catalog.float8) AS "
    "started) s"
    " WHERE t.task OPERATOR(pg_catalog.=) $1",
    {TEXTOID, INT8OID, INT8OID});

pg::Statement fail_query(
    "UPDATE mau.tasks t SET last_started = pg_catalog.to_timestamp($2 OPERATOR(pg_catalog./)"
    " 1000000.0::pg_catalog.float8), last_error = $3, last_error_sqlstate = $4,"
    " last_error_at = pg_catalog.clock_timestamp(), failures = t.failures OPERATOR(pg_catalog.+) 1,"
    " failures_in_a_row = t.failures_in_a_row OPERATOR(pg_catalog.+) 1"
    " WHERE t.task OPERATOR(pg_catalog.=) $1",
    {TEXTOID, INT8OID, TEXTOID, TEXTOID});

constexpr std::int64_t kUnixShift =
    static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

}  // namespace

Task::Task(const char* name) : name_(name), started_(GetCurrentTimestamp()) {}

bool Task::begin() const {
    return pg::try_lock(pg::LockSpace::task, pg::hash(name_));
}

void Task::wait() const {
    pg::take_lock(pg::LockSpace::task, pg::hash(name_));
}

void Task::end(std::int64_t rows) const {
    end_query.write(name_, std::int64_t{started_ + kUnixShift}, rows);
}

void Task::fail(const pg::Trouble& trouble) const {
    fail_query.write(name_, std::int64_t{started_ + kUnixShift}, trouble.text(), trouble.state);
}

}  // namespace mau::tasks
