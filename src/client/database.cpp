#include "client/database.hpp"

#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace mau::client {
namespace {

constexpr const char* kOldestExtension = "1.0";

/// A hint for an error of the server that came without one.
std::string hint_for(const std::string& sqlstate, const std::string& user, Access access) {
    if (sqlstate == "42501" && access == Access::kWrite) {
        return "connect as the extension's owner or a superuser, with -U";
    }
    if (sqlstate == "42501") {
        return fmt::format("as the extension's owner: SELECT mau.grant_to('{}', 'monitoring')", user);
    }
    if (sqlstate == "57014")
        return "give it more time with --timeout, or find what it waits for in pg_stat_activity";
    if (sqlstate == "25006") return "connect to the primary server";
    return "";
}

bool is_older(const std::string& version, const std::string& than) {
    const auto number = [](const std::string& text, std::size_t& at) {
        const long value = std::strtol(text.c_str() + at, nullptr, 10);
        at = std::min(text.find('.', at), text.size() - 1) + 1;
        return value;
    };
    std::size_t a = 0, b = 0;
    while (a < version.size() || b < than.size()) {
        const long left = a < version.size() ? number(version, a) : 0;
        const long right = b < than.size() ? number(than, b) : 0;
        if (left != right) return left < right;
    }
    return false;
}

}  // namespace

std::string one_line(std::string_view message) {
    std::string line;
    bool at_start = true;  // of a line of the message
    for (const char c : message) {
        if (c == '\n' || c == '\r') {
            at_start = true;
        } else if (at_start && (c == ' ' || c == '\t')) {
            continue;
        } else {
            if (at_start && !line.empty()) line += "; ";
            line += c;
            at_start = false;
        }
    }
    return line;
}

Cell Rows::cell(int row, const char* column) const {
    // PQfnumber would fold the name to lower case.
    int number = 0;
    while (number < PQnfields(result_.get()) && std::strcmp(PQfname(result_.get(), number), column) != 0)
        ++number;
    if (number == PQnfields(result_.get())) throw std::logic_error(fmt::format("no column {}", column));
    return cell(row, number);
}

Cell Rows::cell(int row, int number) const {
    if (PQgetisnull(result_.get(), row, number)) return std::nullopt;
    return std::string(PQgetvalue(result_.get(), row, number),
                       static_cast<std::size_t>(PQgetlength(result_.get(), row, number)));
}

long long Rows::integer(int row, const char* column) const {
    return std::strtoll(text(row, column).c_str(), nullptr, 10);
}

Table Rows::table() const {
    constexpr Oid kNumbers[] = {20,  21,  23,  26,
                                700, 701, 1700};  // int8, int2, int4, oid, float4, float8, numeric
    Table table;
    for (int c = 0; c < PQnfields(result_.get()); ++c) {
        bool is_number = false;
        for (const Oid type : kNumbers) is_number = is_number || type == PQftype(result_.get(), c);
        table.columns.push_back({PQfname(result_.get(), c), is_number});
    }
    for (int r = 0; r < size(); ++r) {
        auto& row = table.rows.emplace_back();
        for (int c = 0; c < PQnfields(result_.get()); ++c) row.push_back(cell(r, c));
    }
    return table;
}

Connection::Connection(const Target& target, Seconds timeout, Access access)
    : target_(target), timeout_(timeout), access_(access) {
    connect();
    // Compiling a plan takes longer than running it.
    run_all(fmt::format(
        "SET search_path = pg_catalog, pg_temp; SET datestyle = ISO; SET intervalstyle = postgres;"
        " SET timezone = 'UTC'; SET jit = off; SET statement_timeout = {}; SET lock_timeout = 0{}",
        static_cast<long long>(timeout_.count() * 1000),
        access == Access::kRead ? "; SET default_transaction_read_only = on" : ""));
}

Connection::Deadline Connection::deadline() const {
    if (timeout_.count() <= 0) return std::nullopt;
    return std::chrono::steady_clock::now() +
           std::chrono::duration_cast<std::chrono::steady_clock::duration>(timeout_);
}

void Connection::connect() {
    const char* const keywords[] = {"fallback_application_name", "client_encoding", "dbname", nullptr};
    const char* const values[] = {"mau", "UTF8", target_.conninfo.c_str(), nullptr};
    connection_.reset(PQconnectStartParams(keywords, values, /*expand_dbname=*/1));
    if (!connection_) throw std::bad_alloc();
    PQsetNoticeProcessor(
        connection_.get(), [](void*, const char*) {}, nullptr);
    const Deadline until = deadline();
    if (PQstatus(connection_.get()) == CONNECTION_BAD) throw connection_problem();
    auto state = PGRES_POLLING_WRITING;
    while (state != PGRES_POLLING_OK) {
        if (state == PGRES_POLLING_FAILED) throw connection_problem();
        wait_for_socket(state == PGRES_POLLING_READING, until, "no connection");
        state = PQconnectPoll(connection_.get());
    }
}

Problem Connection::connection_problem() const {
    PGconn* const c = connection_.get();
    std::string hint = "psql with the same options and environment must connect first";
    if (PQconnectionNeedsPassword(c)) {
        hint = "give the password in ~/.pgpass or PGPASSWORD";
    } else if (PQconnectionUsedPassword(c)) {
        hint = "check the user and the password in ~/.pgpass, PGPASSWORD or the conninfo";
    }
    return {one_line(PQerrorMessage(c)), hint, kFailed};
}

void Connection::wait_for_socket(bool for_reading, const Deadline& until, const char* while_what) {
    pollfd poll_for{PQsocket(connection_.get()), static_cast<short>(for_reading ? POLLIN : POLLOUT), 0};
    for (;;) {
        int milliseconds = -1;
        if (until) {
            const auto left = *until - std::chrono::steady_clock::now();
            milliseconds =
                static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(left).count());
            if (milliseconds < 0) milliseconds = 0;
        }
        const int ready = poll(&poll_for, 1, milliseconds);
        if (ready > 0) return;
        if (ready == 0) {
            throw Problem(fmt::format("{}: {} within {:g} s", target_.name.empty() ? name() : target_.name,
                                      while_what, timeout_.count()),
                          "the server hangs or is not reachable; --timeout sets how long to wait");
        }
        if (errno != EINTR) throw Problem(fmt::format("poll: {}", std::strerror(errno)), "");
    }
}

Rows Connection::run(const std::string& sql, const std::vector<Cell>& values) {
    std::vector<const char*> pointers;
    for (const Cell& value : values) pointers.push_back(value ? value->c_str() : nullptr);
    if (!PQsendQueryParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr,
                           pointers.data(), nullptr, nullptr, 0)) {
        throw connection_problem();
    }
    return finish();
}

void Connection::run_all(const std::string& sql) {
    if (!PQsendQuery(connection_.get(), sql.c_str())) throw connection_problem();
    finish();
}

Rows Connection::finish() {
    PGconn* const c = connection_.get();
    // The server ends the statement itself at statement_timeout; this is for one that does not answer any
    // more.
    Deadline until = deadline();
    if (until) *until += std::chrono::seconds(2);
    Rows last(nullptr);
    std::optional<Problem> problem;
    for (;;) {
        while (PQisBusy(c)) {
            wait_for_socket(true, until, "no answer");
            if (!PQconsumeInput(c)) throw connection_problem();
        }
        PGresult* const result = PQgetResult(c);
        if (!result) break;
        last = Rows(result);
        const ExecStatusType status = PQresultStatus(result);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && !problem) {
            const auto field = [&](int code) {
                const char* const text = PQresultErrorField(result, code);
                return std::string(text ? text : "");
            };
            const std::string state = field(PG_DIAG_SQLSTATE);
            std::string hint = field(PG_DIAG_MESSAGE_HINT);
            if (hint.empty()) hint = hint_for(state, PQuser(c), access_);
            std::string message = field(PG_DIAG_MESSAGE_PRIMARY);
            if (message.empty()) message = PQerrorMessage(c);
            const std::string detail = field(PG_DIAG_MESSAGE_DETAIL);
            problem.emplace(one_line(fmt::format("{}{}{}{}", message, detail.empty() ? "" : ": ", detail,
                                                 state.empty() ? "" : " (SQLSTATE " + state + ")")),
                            one_line(hint));
        }
    }
    if (problem) throw *problem;
    return last;
}

std::optional<std::string> Connection::extension_version() {
    const Rows rows = run("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'mau'");
    if (rows.size() == 0) return std::nullopt;
    return rows.text(0, "extversion");
}

Connection open_database(const Target& target, Seconds timeout, Access access) {
    Connection connection(target, timeout, access);
    const auto version = connection.extension_version();
    if (!version) {
        throw NoExtension(fmt::format("database {} does not have the extension mau", connection.name()),
                          "in that database, as a superuser: CREATE EXTENSION mau");
    }
    if (is_older(*version, kOldestExtension)) {
        throw Problem(fmt::format("database {} has mau {}, and this program needs {} or later",
                                  connection.name(), *version, kOldestExtension),
                      "in that database, as a superuser: ALTER EXTENSION mau UPDATE");
    }
    return connection;
}

std::optional<std::string> Connection::wait_for_notification(Seconds timeout) {
    PGconn* const c = connection_.get();
    pollfd poll_for{PQsocket(c), POLLIN, 0};
    for (int tries = 0; tries < 2; ++tries) {
        if (PGnotify* const notification = PQnotifies(c)) {
            std::string payload = notification->extra;
            PQfreemem(notification);
            return payload;
        }
        if (tries == 0) {
            poll(&poll_for, 1, static_cast<int>(timeout.count() * 1000));
            if (!PQconsumeInput(c) || PQstatus(c) == CONNECTION_BAD) throw connection_problem();
        }
    }
    return std::nullopt;
}

std::string Connection::server() const {
    const std::string host = PQhost(connection_.get());
    return fmt::format("{}:{}", host.empty() ? "local socket" : host, PQport(connection_.get()));
}

}  // namespace mau::client
