// Shared by the programs that load a server: a libpq connection that closes itself, and a result likewise.
#pragma once

#include <libpq-fe.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pq {

class Result {
  public:
    Result() = default;
    explicit Result(PGresult* result) : result_(result, PQclear) {}
    bool ok() const {
        const ExecStatusType status = PQresultStatus(result_.get());
        return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    }
    std::string state() const {
        const char* state = result_ ? PQresultErrorField(result_.get(), PG_DIAG_SQLSTATE) : nullptr;
        return state ? state : "";
    }
    std::string message() const { return result_ ? PQresultErrorMessage(result_.get()) : "no result"; }
    ExecStatusType status() const { return PQresultStatus(result_.get()); }
    int rows() const { return PQntuples(result_.get()); }
    bool is_null(int row, int column) const { return PQgetisnull(result_.get(), row, column) != 0; }
    std::string text(int row, int column) const { return PQgetvalue(result_.get(), row, column); }
    long long integer(int row, int column) const { return std::atoll(PQgetvalue(result_.get(), row, column)); }

  private:
    std::unique_ptr<PGresult, void (*)(PGresult*)> result_{nullptr, PQclear};
};

class Connection {
  public:
    Connection() = default;
    /// Connects; `alive` says whether that went well.
    explicit Connection(const std::string& conninfo) : connection_(PQconnectdb(conninfo.c_str()), PQfinish) {
        if (connection_) PQsetNoticeProcessor(connection_.get(), [](void*, const char*) {}, nullptr);
    }
    bool alive() const { return connection_ && PQstatus(connection_.get()) == CONNECTION_OK; }
    std::string trouble() const { return connection_ ? PQerrorMessage(connection_.get()) : "not connected"; }
    int pid() const { return PQbackendPID(connection_.get()); }
    PGconn* get() const { return connection_.get(); }

    Result run(const std::string& sql) { return Result(PQexec(connection_.get(), sql.c_str())); }
    Result run(const std::string& sql, const std::vector<std::string>& values) {
        std::vector<const char*> pointers;
        for (const std::string& value : values) pointers.push_back(value.c_str());
        return Result(PQexecParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr,
                                   pointers.data(), nullptr, nullptr, 0));
    }
    /// Runs what must succeed.
    Result must(const std::string& sql) {
        Result result = run(sql);
        if (!result.ok()) throw std::runtime_error(sql.substr(0, 200) + ": " + result.message());
        return result;
    }

  private:
    std::unique_ptr<PGconn, void (*)(PGconn*)> connection_{nullptr, PQfinish};
};

}  // namespace pq
