// The tasks (sync, fold, refresh, reap, reconcile, compare): one run of each at a time; mau.tasks has the
// result of the last run.
#pragma once

#include "rules/calendar.hpp"

#include "pg/values.hpp"

namespace mau::tasks {

/// A run of a task by its SQL function. Two never run at the same time in a database (rule R8).
class Task {
  public:
    explicit Task(const char* name);
    /// Takes the task's lock for the transaction; returns false if another session has it.
    bool begin() const;
    /// Takes the lock, too, but waits for another session: for functions that an administrator calls once.
    void wait() const;
    /// Notes success and the number of rows, and the instant where later questions depend on it; needs SPI.
    void end(std::int64_t rows, std::optional<Instant> at = std::nullopt) const;
    /// Notes a failure that was caught, such as a homeserver's missing table; needs SPI.
    void fail(const pg::Trouble& trouble) const;

  private:
    const char* name_;
    TimestampTz started_;
};

/// Runs a task's function: `body` makes the rows, connected to SPI. One row `busy` if another session is at
/// it.
template <class Body>
Datum run(FunctionCallInfo fcinfo, const char* name, Body&& body) {
    pg::ResultSet result(fcinfo);
    const Task task(name);
    if (task.begin())
        pg::with_spi([&] { body(task, result); });
    else
        result.add({"busy", std::int64_t{0}});
    return Datum(0);
}

}  // namespace mau::tasks
