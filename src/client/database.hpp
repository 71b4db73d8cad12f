// A connection to a database. Waiting for the server has a time limit. Resolving a host's name has none:
// libpq does it in one blocking call.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/problem.hpp"
#include "client/table.hpp"

namespace mau::client {

using Seconds = std::chrono::duration<double>;

/// A database as the user named it.
struct Target {
    std::string name;           ///< For people, and the label of its series.
    std::string conninfo;       ///< What PQconnectdb takes; empty = PG* of the environment.
    bool is_found = false;      ///< In a list of a server's databases. Without the extension it is no target.
    std::string found_by = {};  ///< The name of that list, as in the problems of all_targets.
};

/// The rows of a statement.
class Rows {
  public:
    explicit Rows(PGresult* result) : result_(result, PQclear) {}

    int size() const { return PQntuples(result_.get()); }
    /// A cell by its column's name, which must exist; none for NULL.
    Cell cell(int row, const char* column) const;
    /// The same, where NULL is an empty text.
    std::string text(int row, const char* column) const { return cell(row, column).value_or(""); }
    /// The same, for an integer that is not NULL.
    long long integer(int row, const char* column) const;
    bool is_true(int row, const char* column) const { return cell(row, column) == "t"; }
    /// All rows as they are.
    Table table() const;

  private:
    Cell cell(int row, int number) const;

    std::unique_ptr<PGresult, void (*)(PGresult*)> result_;
};

enum class Access { kRead, kWrite };

class Connection {
  public:
    /// Connects. `timeout` holds for the connection and for each statement; 0 = none. Raises Problem.
    Connection(const Target& target, Seconds timeout, Access access = Access::kRead);

    /// Runs one statement. A value without a text is NULL. Raises Problem.
    Rows run(const std::string& sql, const std::vector<Cell>& values = {});
    /// Runs several statements without values. Raises Problem.
    void run_all(const std::string& sql);

    /// The next notification of the channels that are listened to, as payload; none after `timeout`. Raises
    /// Problem where the connection is lost.
    std::optional<std::string> wait_for_notification(Seconds timeout);

    /// The version of the extension in this database; none where it is missing. Raises Problem.
    std::optional<std::string> extension_version();

    /// The database's own name, and the server as a person would name it.
    std::string name() const { return PQdb(connection_.get()); }
    std::string server() const;
    const Target& target() const { return target_; }

  private:
    using Deadline = std::optional<std::chrono::steady_clock::time_point>;
    Deadline deadline() const;
    void connect();
    void wait_for_socket(bool for_reading, const Deadline& deadline, const char* while_what);
    Rows finish();
    Problem connection_problem() const;

    Target target_;
    Seconds timeout_;
    Access access_;
    std::unique_ptr<PGconn, void (*)(PGconn*)> connection_{nullptr, PQfinish};
};

/// The problem of a database that does not have the extension.
class NoExtension : public Problem {
  public:
    using Problem::Problem;
};

/// Connects to a database that has an extension of a version that this program knows. Raises Problem, and
/// NoExtension where it is missing.
Connection open_database(const Target& target, Seconds timeout, Access access = Access::kRead);

/// A message of libpq as one line.
std::string one_line(std::string_view message);

}  // namespace mau::client
