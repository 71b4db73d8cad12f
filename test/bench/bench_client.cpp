// make bench: the cost of mau, as ratios measured in one run against the same work without it. Contenders
// take turns, round by round; the output has medians, and ratios are medians of the ratios within a
// round. Writes a table to stdout and bench.json. Speaks to the server that PGHOST, … lead to; runs
// pgbench, which must be in PATH.

#include "../load/pq.hpp"
#include "figures.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <thread>

namespace {

// --- Sizes
// ------------------------------------------------------------------------------------------------------

struct Scale {
    bool full = true;
    double seconds = 1.5;  // of a slice of pgbench
    int rounds = 5;
    long members = 100000;  // in the cohort of (a), (b)
    std::vector<long> cohorts = {10000, 100000, 1000000};
    long reaped = 1000000;
    std::vector<long> servers = {100000, 1000000};
} scale;

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.empty() ? NAN : values[values.size() / 2];
}

// --- The table
// --------------------------------------------------------------------------------------------------

using figures::digits;
figures::Table table;

/// `wanted`: such as ">= 0.95" of the ratio, or "<= 20" of the value (with `of_value`).
void add(const std::string& part, const std::string& what, double value, const std::string& unit,
         double ratio = NAN, const std::string& against = "", const std::string& wanted = "",
         bool of_value = false) {
    table.add({part, what, unit, against, wanted, value, ratio,
               figures::as_wanted(wanted, of_value ? value : ratio)});
}

// --- Measuring
// --------------------------------------------------------------------------------------------------

/// One that takes turns with others: a run of it answers a figure.
struct Contender {
    std::string name;
    std::function<double()> run;
};

struct Results {
    std::vector<std::vector<double>> of;  // by contender, by round
    double value(std::size_t i) const { return median(of[i]); }
    double ratio(std::size_t i, std::size_t to) const {
        std::vector<double> ratios;
        for (std::size_t r = 0; r < of[i].size(); ++r) ratios.push_back(of[i][r] / of[to][r]);
        return median(ratios);
    }
};

Results take_turns(const std::vector<Contender>& contenders, int rounds) {
    Results results{std::vector<std::vector<double>>(contenders.size())};
    for (int round = -1; round < rounds; ++round)  // the first one warms up
        for (std::size_t i = 0; i < contenders.size(); ++i) {
            const std::size_t which = (i + static_cast<std::size_t>(round + 1)) % contenders.size();
            const double figure = contenders[which].run();
            if (round >= 0) results.of[which].push_back(figure);
        }
    return results;
}

std::string database_info(const std::string& database) {
    return "dbname=" + database;
}

/// A connection to one of the bench's databases.
pq::Connection connect(const std::string& database) {
    pq::Connection connection(database_info(database));
    if (!connection.alive()) throw std::runtime_error(connection.trouble());
    connection.must("SET client_min_messages = warning");
    return connection;
}

/// Transactions per second of a pgbench script.
double pgbench(const std::string& database, const std::string& script, int clients, double seconds) {
    char command[512];
    std::snprintf(
        command, sizeof command,
        "pgbench -n -M prepared -c %d -j %d -T %d -D members=%ld -f test/bench/scripts/%s.sql %s 2>&1",
        clients, std::min(clients, 2), std::max(1, static_cast<int>(std::lround(seconds))), scale.members,
        script.c_str(), database.c_str());
    FILE* pipe = popen(command, "r");
    double tps = 0;
    std::string all;
    for (char line[512]; std::fgets(line, sizeof line, pipe);) {
        all += line;
        if (std::strncmp(line, "tps = ", 6) == 0) tps = std::atof(line + 6);
    }
    if (pclose(pipe) != 0 || tps <= 0) throw std::runtime_error(script + ": " + all.substr(0, 2000));
    return tps;
}

/// The processor time that a backend has used, in seconds: unlike the clock's it does not depend on who else
/// is at work on the machine. Nothing here waits for a disk. The clock's where the system does not tell.
double processor_time(const pq::Connection& connection) {
    double nanoseconds = 0;
    if (FILE* file = std::fopen(("/proc/" + std::to_string(connection.pid()) + "/schedstat").c_str(), "r")) {
        if (std::fscanf(file, "%lf", &nanoseconds) != 1) nanoseconds = 0;
        std::fclose(file);
    }
    return nanoseconds > 0 ? nanoseconds / 1e9 : now();
}

/// Seconds that a statement takes.
double seconds_of(pq::Connection& connection, const std::string& sql) {
    const double start = processor_time(connection);
    connection.must(sql);
    return processor_time(connection) - start;
}

/// What clients call themselves; user number i is the one of agents[i % 5].
const std::vector<std::string> agents = {
    "Element/1.6.10 (Google Pixel 7; Android 14; Flavour GooglePlay; MatrixAndroidSdk2 1.6.10)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Element/1.11.58 "
    "Chrome/120.0.6099.56 Electron/28.1.1 Safari/537.36",
    "Element/1.11.5 (iPhone 14; iOS 17.4; Scale/3.00)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 "
    "Safari/605.1.15"};
const std::string agent_of_i = [] {
    std::string list;
    for (const std::string& agent : agents) list += (list.empty() ? "'" : ", '") + agent + "'";
    return "(ARRAY[" + list + "])[1 + i % 5]";
}();

/// Callers take turns in slices that are short beside the moods of a machine that is not ours alone.
constexpr int kSlices = 16;

/// Clients that stay connected and call with random members, as a homeserver's do (a new backend meets each
/// page of shared memory for the first time). A second parameter is the user's agent.
class Callers {
  public:
    Callers(const std::string& database, const std::string& sql, int clients)
        : parameters_(sql.find("$2") == std::string::npos ? 1 : 2) {
        for (int i = 0; i < clients; ++i) {
            connections_.push_back(connect(database));
            const Oid types[] = {25, 25};
            const pq::Result prepared(
                PQprepare(connections_.back().get(), "call", sql.c_str(), parameters_, types));
            if (!prepared.ok()) throw std::runtime_error(sql + ": " + prepared.message());
        }
        rate(3 * scale.seconds);
        begin();
    }
    /// Calls per second by the clock.
    double rate(double seconds) {
        std::atomic<long> calls{0}, failures{0};
        std::vector<std::thread> threads;
        const double start = now();
        double used = 0;
        for (pq::Connection& connection : connections_) used -= processor_time(connection);
        for (pq::Connection& connection : connections_)
            threads.emplace_back([&] {
                std::mt19937_64 random(static_cast<unsigned long>(connection.pid()) * 977 +
                                       static_cast<unsigned long>(start));
                long done = 0;
                for (; now() - start < seconds; ++done) {
                    const unsigned long number = random() % static_cast<unsigned long>(scale.members);
                    const std::string user = "@user" + std::to_string(number) + ":example.com";
                    const char* const values[] = {user.c_str(), agents[number % agents.size()].c_str()};
                    PGresult* const result =
                        PQexecPrepared(connection.get(), "call", parameters_, values, nullptr, nullptr, 0);
                    if (PQresultStatus(result) != PGRES_TUPLES_OK &&
                        PQresultStatus(result) != PGRES_COMMAND_OK)
                        ++failures;
                    PQclear(result);
                }
                calls += done;
            });
        for (std::thread& thread : threads) thread.join();
        if (failures) throw std::runtime_error("calls failed");
        const double took = now() - start;
        for (pq::Connection& connection : connections_) used += processor_time(connection);
        calls_ += static_cast<double>(calls);
        used_ += used;
        return static_cast<double>(calls) / took;
    }
    /// Forgets what it was warmed up with.
    void begin() { calls_ = used_ = 0; }
    /// Calls per second of processor time of the backends since then: one processor's work without the
    /// clients.
    double per_processor() const { return calls_ / used_; }

  private:
    const int parameters_;
    double calls_ = 0, used_ = 0;
    std::vector<pq::Connection> connections_;
};

/// A database with mau and the schema "bench": an empty C function, and the table that Synapse has.
void make_database(const std::string& name) {
    pq::Connection admin = connect("postgres");
    admin.must("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)");
    admin.must("CREATE DATABASE " + name);
    pq::Connection connection = connect(name);
    char folder[4096];
    if (!getcwd(folder, sizeof folder)) throw std::runtime_error("where are we?");
    connection.must(
        "CREATE EXTENSION mau; CREATE SCHEMA bench;"
        "CREATE FUNCTION bench.empty(user_id text, at timestamptz DEFAULT now()) RETURNS text LANGUAGE C AS "
        "'" +
        std::string(folder) +
        "/build/test/bench_module.so', 'bench_empty';"
        "CREATE FUNCTION bench.empty(user_id text, at timestamptz, user_agent text) RETURNS text LANGUAGE C "
        "AS '" +
        std::string(folder) +
        "/build/test/bench_module.so', 'bench_empty';"
        "CREATE TABLE bench.plain (user_id text NOT NULL, \"timestamp\" bigint NOT NULL);"
        "CREATE UNIQUE INDEX ON bench.plain (user_id); CREATE INDEX ON bench.plain (\"timestamp\");"
        "CREATE FUNCTION bench.ms(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS"
        " 'SELECT floor(extract(epoch FROM at) * 1000)::bigint';");
}

/// Members @user0… of both tables, last seen from `oldest` to `newest` ago.
void fill(pq::Connection& connection, long members, const std::string& oldest, const std::string& newest) {
    const std::string n = std::to_string(members);
    const std::string rows = " SELECT '@user' || i || ':example.com', bench.ms(now() - interval '" + oldest +
                             "' + (interval '" + oldest + "' - interval '" + newest +
                             "') * ((i::bigint * 7919) % " + n + ") / " + n + ") FROM generate_series(0, " +
                             n + " - 1) i";
    connection.must("TRUNCATE mau.monthly_active_users, bench.plain; DELETE FROM mau.users");
    connection.must(
        "INSERT INTO mau.users (user_id, is_registered, registered_at) SELECT '@user' || i || "
        "':example.com', true,"
        " bench.ms(now() - interval '400 days') FROM generate_series(0, " +
        n + " - 1) i");
    connection.must("INSERT INTO mau.monthly_active_users (user_id, \"timestamp\")" + rows);
    connection.must("INSERT INTO bench.plain" + rows);
    connection.must("VACUUM (ANALYZE) mau.users, mau.monthly_active_users, bench.plain");
}

/// The tables of a Synapse, as far as counting monthly active users touches them, with as many users.
void make_homeserver(pq::Connection& connection, long users) {
    const std::string n = std::to_string(users);
    connection.must(
        "CREATE TABLE public.users (name text UNIQUE, password_hash text, creation_ts bigint, admin smallint "
        "NOT NULL DEFAULT 0,"
        " upgrade_ts bigint, is_guest smallint NOT NULL DEFAULT 0, appservice_id text, consent_version text,"
        " consent_server_notice_sent text, user_type text, deactivated smallint NOT NULL DEFAULT 0, "
        "shadow_banned boolean);"
        "CREATE INDEX ON public.users (creation_ts);"
        "CREATE TABLE public.user_ips (user_id text NOT NULL, access_token text NOT NULL, device_id text, ip "
        "text NOT NULL,"
        " user_agent text NOT NULL, last_seen bigint NOT NULL);"
        "CREATE UNIQUE INDEX ON public.user_ips (user_id, access_token, ip);"
        "CREATE INDEX ON public.user_ips (user_id, device_id, last_seen);"
        "CREATE INDEX ON public.user_ips (user_id, last_seen); CREATE INDEX ON public.user_ips (last_seen);"
        "CREATE TABLE public.user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT "
        "NULL,"
        " validated_at bigint NOT NULL, added_at bigint NOT NULL, UNIQUE (medium, address));"
        "CREATE INDEX ON public.user_threepids (user_id);"
        "CREATE TABLE public.user_daily_visits (user_id text NOT NULL, device_id text, \"timestamp\" bigint "
        "NOT NULL, user_agent text);"
        "CREATE INDEX ON public.user_daily_visits (\"timestamp\"); CREATE INDEX ON public.user_daily_visits "
        "(user_id, \"timestamp\");"
        "CREATE TABLE public.devices (user_id text NOT NULL, device_id text NOT NULL, display_name text, "
        "last_seen bigint, ip text,"
        " user_agent text, hidden boolean DEFAULT false, UNIQUE (user_id, device_id));"
        "CREATE TABLE public.monthly_active_users (user_id text NOT NULL, \"timestamp\" bigint NOT NULL);"
        "CREATE UNIQUE INDEX ON public.monthly_active_users (user_id); CREATE INDEX ON "
        "public.monthly_active_users (\"timestamp\")");
    connection.must(
        "INSERT INTO public.users (name, password_hash, creation_ts, appservice_id) SELECT '@user' || i || "
        "':example.com',"
        " '$2b$12$' || md5(i::text), extract(epoch FROM now())::bigint - 86400 * (100 + i % 900),"
        " CASE WHEN i % 7 = 0 THEN 'irc-bridge' END FROM generate_series(0, " +
        n + " - 1) i");
    // A quarter of the users were active in the last 28 days.
    connection.must(
        "INSERT INTO public.user_ips SELECT '@user' || i || ':example.com', 'syt_' || md5(i::text), "
        "upper(left(md5('d' || i), 10)),"
        " '10.0.' || i % 250 || '.1', 'Element/1.11.5 Chrome/104 Electron/20', bench.ms(now()) - 600000 - "
        "(i::bigint * 7919 % 28) * 86400000"
        " FROM generate_series(0, " +
        n + " - 1, 4) i");
    connection.must(
        "INSERT INTO public.monthly_active_users SELECT user_id, max(last_seen) FROM public.user_ips GROUP "
        "BY 1");
    connection.must("VACUUM ANALYZE");
}

// --- (a) One call
// -----------------------------------------------------------------------------------------------

void one_call() {
    make_database("bench_hot");
    make_database("bench_write");
    for (const char* database : {"bench_hot", "bench_write"}) {
        pq::Connection connection = connect(database);
        fill(connection, scale.members, "10 days", "2 hours");
        make_homeserver(connection, scale.members * 4);
    }
    pq::Connection hot = connect("bench_hot"), write = connect("bench_write");
    write.must("UPDATE mau.settings SET last_seen_granularity = '0'");
    // Everybody has been seen lately: by a client that does not say what it is, by the user's own, by a
    // browser. In many transactions, again and again: the cache remembers at
    // commit.
    for (int time = 0; time < 5; ++time) {
        for (long from = 0; from < scale.members; from += 5000)
            hot.must(
                "SELECT mau.record_activity(u), mau.record_activity(u, now(), a), mau.record_activity(u, "
                "now(), 'Mozilla')"
                " FROM (SELECT '@user' || i || ':example.com' u, " +
                agent_of_i + " a FROM generate_series(" + std::to_string(from) + ", " +
                std::to_string(std::min(from + 5000, scale.members) - 1) + ") i OFFSET 0) x");
        if (time == 0) hot.must("VACUUM ANALYZE mau.monthly_active_users");
    }

    auto script = [](const char* database, const char* name) {
        return Contender{name, [=] { return pgbench(database, name, 4, scale.seconds); }};
    };
    const std::string calls = "calls/cpu s";
    {
        Callers empty("bench_hot", "SELECT bench.empty($1)", 4),
            select("bench_hot", "SELECT 1 WHERE $1 IS NOT NULL", 4),
            record("bench_hot", "SELECT mau.record_activity($1)", 4),
            admit("bench_hot", "SELECT mau.admit($1)", 4),
            empty_agent("bench_hot", "SELECT bench.empty($1, now(), $2)", 4),
            record_agent("bench_hot", "SELECT mau.record_activity($1, now(), $2)", 4);
        auto rate = [](Callers& callers) {
            return Contender{"", [&callers] { return callers.rate(scale.seconds / kSlices); }};
        };
        const Results r = take_turns(
            {rate(empty), rate(select), rate(record), rate(admit), rate(empty_agent), rate(record_agent)},
            kSlices * scale.rounds + 1);
        const Results w =
            take_turns({script("bench_hot", "hot"), script("bench_hot", "homeserver_seen")}, scale.rounds);
        const std::string seconds = "calls/s";
        add("a", "empty C function, 4 clients", r.value(0), seconds);
        add("a", "SELECT 1", r.value(1), seconds, r.ratio(1, 0), "empty C function");
        add("a", "hot call: record_activity of a member seen lately", r.value(2), seconds, r.ratio(2, 0),
            "empty C function", ">= 0.93");
        add("a", "the same with a user agent", r.value(5), seconds, r.ratio(5, 4),
            "empty C function, with one", ">= 0.93");
        add("a", "admit of a member seen lately", r.value(3), seconds, r.ratio(3, 0), "empty C function");
        auto processor = [&](const char* what, const Callers& it, const Callers& to) {
            add("a", what, it.per_processor(), calls, it.per_processor() / to.per_processor(),
                "empty C function, so measured");
        };
        processor("hot call, by the backends' processor time alone", record, empty);
        processor("the same with a user agent", record_agent, empty_agent);
        processor("admit, by the backends' processor time alone", admit, empty);
        add("a", "a homeserver's statements for the same (pgbench)", w.value(1), "by clock/s", w.ratio(0, 1),
            "mau is so many times faster");
    }
    {
        // Many calls in one statement: no protocol, no parsing.
        const std::string n = std::to_string(scale.members);
        auto server_side = [&](const std::string& function) {
            return Contender{
                function, [&hot, function, n] {
                    return seconds_of(hot, "SELECT count(" + function + ") FROM (SELECT '@user' || i % " + n +
                                               " || ':example.com' u, " + agent_of_i +
                                               " a FROM generate_series(1, 300000) i OFFSET 0) x") /
                           300000 * 1e9;
                }};
        };
        const Results r = take_turns({server_side("bench.empty(u)"), server_side("mau.record_activity(u)"),
                                      server_side("mau.admit(u)"), server_side("bench.empty(u, now(), a)"),
                                      server_side("mau.record_activity(u, now(), a)")},
                                     scale.rounds);
        add("a", "hot call, in the server, net of the empty function", r.value(1) - r.value(0), "ns", NAN, "",
            "<= 300", true);
        add("a", "the same with a user agent", r.value(4) - r.value(3), "ns", NAN, "", "<= 300", true);
        add("a", "admit, in the server, net of the empty function", r.value(2) - r.value(0), "ns");
    }
    {
        Callers plain(
            "bench_write",
            "INSERT INTO bench.plain (user_id, \"timestamp\") VALUES ($1,"
            " floor(extract(epoch FROM clock_timestamp()) * 1000)) ON CONFLICT (user_id) DO UPDATE SET"
            " \"timestamp\" = EXCLUDED.\"timestamp\"",
            4),
            moves("bench_write", "SELECT mau.record_activity($1, clock_timestamp())", 4),
            moves_agent("bench_write", "SELECT mau.record_activity($1, clock_timestamp(), $2)", 4);
        auto rate = [](Callers& callers) {
            return Contender{"", [&callers] { return callers.rate(scale.seconds / kSlices); }};
        };
        const Results r =
            take_turns({rate(plain), rate(moves), rate(moves_agent)}, kSlices * scale.rounds + 1);
        const Results w = take_turns(
            {script("bench_write", "write"), script("bench_write", "homeserver_write")}, scale.rounds);
        add("a", "plain SQL upsert, 4 clients", r.value(0), "calls/s");
        add("a", "single write: record_activity that moves a member on", r.value(1), "calls/s", r.ratio(1, 0),
            "plain SQL upsert", ">= 0.8");
        add("a", "the same with a user agent", r.value(2), "calls/s", r.ratio(2, 0), "plain SQL upsert",
            ">= 0.8");
        add("a", "single write, by the backends' processor time alone", moves.per_processor(), calls,
            moves.per_processor() / plain.per_processor(), "plain SQL upsert, so measured");
        add("a", "a homeserver's statements for the same (pgbench)", w.value(1), "by clock/s", w.ratio(0, 1),
            "mau is so many times faster");
    }
    {
        write.must("UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2000000000");
        const Results r = take_turns({script("bench_write", "homeserver_new"), script("bench_write", "new")},
                                     std::min(3, scale.rounds));
        add("a", "a newcomer, with a limit: record_activity", r.value(1), "by clock/s");
        add("a", "a homeserver's statements for the same (pgbench)", r.value(0), "by clock/s", r.ratio(1, 0),
            "mau is so many times faster");
    }
    {
        // Pipelined: many calls on the way, no waiting for the answers; the protocol's share without the
        // round trip.
        auto pipelined = [&](const char* sql) {
            return Contender{sql, [&hot, sql] {
                                 PGconn* const connection = hot.get();
                                 const int calls = 50000, window = 500;
                                 Oid type = 25;
                                 PQclear(PQprepare(connection, sql, sql, 1, &type));
                                 PQenterPipelineMode(connection);
                                 const double start = processor_time(hot);
                                 for (int done = 0; done < calls; done += window) {
                                     for (int i = 0; i < window; ++i) {
                                         const std::string user = "@user" +
                                                                  std::to_string((done + i) % scale.members) +
                                                                  ":example.com";
                                         const char* value = user.c_str();
                                         PQsendQueryPrepared(connection, sql, 1, &value, nullptr, nullptr, 0);
                                     }
                                     PQpipelineSync(connection);
                                     for (int i = 0; i < window; ++i) {
                                         PQclear(PQgetResult(connection));  // the answer
                                         PQclear(PQgetResult(connection));  // the end of this one
                                     }
                                     PQclear(PQgetResult(connection));  // the sync
                                 }
                                 const double rate = calls / (processor_time(hot) - start);
                                 PQexitPipelineMode(connection);
                                 hot.must("DEALLOCATE ALL");
                                 return rate;
                             }};
        };
        const Results r = take_turns(
            {pipelined("SELECT bench.empty($1)"), pipelined("SELECT mau.record_activity($1)")}, scale.rounds);
        add("a", "hot call, one pipelined client", r.value(1), calls, r.ratio(1, 0),
            "empty C function, pipelined");
    }
}

// --- (b) Batches
// ------------------------------------------------------------------------------------------------

void batches() {
    const int size = 1000;
    const long count = scale.members / size;
    for (const char* database : {"bench_hot", "bench_write"}) {
        pq::Connection connection = connect(database);
        connection.must(
            "DROP TABLE IF EXISTS bench.batches; CREATE TABLE bench.batches AS SELECT n, array_agg(u) AS "
            "users,"
            " array_agg(now()) AS dummy FROM (SELECT (i * 7919 % " +
            std::to_string(scale.members) + ") / " + std::to_string(size) +
            " AS n, '@user' || i || ':example.com' AS u FROM generate_series(0, " +
            std::to_string(scale.members) + " - 1) i) x GROUP BY n; ANALYZE bench.batches");
    }
    pq::Connection hot = connect("bench_hot"), write = connect("bench_write");
    write.must("UPDATE mau.settings SET limit_usage_by_mau = false");
    write.must("VACUUM mau.monthly_active_users, bench.plain");
    // Many batches in one round; each is a statement of its own.
    auto run = [count](pq::Connection& connection, const std::string& sql, long batches) {
        const double start = processor_time(connection);
        for (long i = 0; i < batches; ++i) {
            std::string statement = sql;
            statement.replace(statement.find("%n"), 2, std::to_string(i % count));
            connection.must(statement);
        }
        return (processor_time(connection) - start) / static_cast<double>(batches * size) * 1e6;
    };
    const std::string call =
        "SELECT mau.record_activities(users, array_fill(clock_timestamp(), ARRAY[1000])) FROM bench.batches "
        "WHERE n = %n";
    const std::string plain =
        "INSERT INTO bench.plain (user_id, \"timestamp\") SELECT u, bench.ms(clock_timestamp()) FROM"
        " bench.batches, unnest(users) u WHERE n = %n ON CONFLICT (user_id) DO UPDATE"
        " SET \"timestamp\" = EXCLUDED.\"timestamp\"";
    const long some = std::min(count, scale.full ? 60L : 20L);
    {
        // Without what any statement on such an array costs.
        const std::string nothing =
            "SELECT cardinality(users), cardinality(array_fill(clock_timestamp(), ARRAY[1000])) FROM "
            "bench.batches WHERE n = %n";
        hot.must("SELECT mau.record_activities(users, array_fill(now(), ARRAY[1000])) FROM bench.batches");
        const Results r = take_turns(
            {{"", [&] { return run(hot, nothing, some); }}, {"", [&] { return run(hot, call, some); }}},
            scale.rounds);
        add("b", "batch of 1 000, all seen lately", r.value(1) - r.value(0), "us/user", NAN, "", "<= 0.4",
            true);
    }
    {
        const Results r = take_turns(
            {{"", [&] { return run(write, plain, some); }}, {"", [&] { return run(write, call, some); }}},
            scale.rounds);
        add("b", "batch of 1 000, plain unnest upsert (no fillfactor)", r.value(0), "us/user");
        add("b", "batch of 1 000, all to write", r.value(1), "us/user", r.ratio(0, 1),
            "mau is so many times faster", ">= 1.2");
    }
    {
        // Each round is a day later, so that every sighting is the first of a day and marks a visit, too.
        int day = 0;
        const std::string daily =
            "SELECT mau.record_activities(users, array_fill(clock_timestamp() + interval '%d days', "
            "ARRAY[1000]))"
            " FROM bench.batches WHERE n = %n";
        const Results r =
            take_turns({{"",
                         [&] {
                             std::string sql = daily;
                             return run(write, sql.replace(sql.find("%d"), 2, std::to_string(++day)), some);
                         }}},
                       scale.rounds);
        add("b", "batch of 1 000, all to write, each the first of its day", r.value(0), "us/user");
    }
}

// --- (c) Admissions
// ---------------------------------------------------------------------------------------------

void admissions() {
    make_database("bench_admit");
    const int clients = 16, users = scale.full ? 10000 : 3000;
    pq::Connection admin = connect("bench_admit");
    auto crowd = [&](const std::string& settings, const std::string& sql) {
        return Contender{
            settings, [&admin, settings, sql, users] {
                admin.must("TRUNCATE mau.monthly_active_users, bench.plain; DELETE FROM mau.users; " +
                           settings);
                admin.must("VACUUM mau.users");
                admin.must("CHECKPOINT");
                std::atomic<int> next{0};
                std::vector<std::thread> threads;
                std::vector<pq::Connection> connections;
                for (int i = 0; i < clients; ++i) {
                    connections.push_back(connect("bench_admit"));
                    PQclear(PQprepare(connections.back().get(), "admit", sql.c_str(), 1, nullptr));
                }
                const double start = now();
                for (int i = 0; i < clients; ++i)
                    threads.emplace_back([&, i] {
                        for (int mine; (mine = next++) < users;) {
                            const std::string user = "@new" + std::to_string(mine) + ":example.com";
                            const char* value = user.c_str();
                            PQclear(PQexecPrepared(connections[static_cast<std::size_t>(i)].get(), "admit", 1,
                                                   &value, nullptr, nullptr, 0));
                        }
                    });
                for (std::thread& thread : threads) thread.join();
                return users / (now() - start);
            }};
    };
    const std::string call = "SELECT mau.admit($1)";
    const Results r = take_turns(
        {crowd("UPDATE mau.settings SET limit_usage_by_mau = false", call),
         crowd("UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1000000", call),
         crowd("UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = " +
                   std::to_string(users / 2),
               call),
         crowd("SELECT 1", "INSERT INTO bench.plain VALUES ($1, bench.ms(now())) ON CONFLICT DO NOTHING")},
        scale.rounds);
    const std::string unit = "users/s", of = std::to_string(users);
    add("c", "16 clients admit " + of + " newcomers, no limit", r.value(0), unit);
    add("c", "the same with a limit, room for all", r.value(1), unit, r.ratio(1, 0), "no limit", ">= 0.9");
    add("c", "the same with room for half of them", r.value(2), unit, r.ratio(2, 0), "no limit");
    add("c", "plain INSERT of as many, for comparison", r.value(3), unit, r.ratio(0, 3),
        "mau, no limit, to that");
}

// --- (d) The count
// ----------------------------------------------------------------------------------------------

void counts() {
    for (const long members : scale.cohorts) {
        const std::string n = std::to_string(members);
        make_database("bench_count");
        pq::Connection connection = connect("bench_count");
        fill(connection, members, "29 days", "0 days");
        const int times = 2000;
        const Results r = take_turns(
            {{"",
              [&] {
                  return seconds_of(connection,
                                    "SELECT count(mau.monthly_active_count()) FROM generate_series(1, " +
                                        std::to_string(times) + ")") /
                         times * 1e6;
              }},
             {"",
              [&] {
                  return seconds_of(connection,
                                    "SELECT count(*) FROM bench.plain p LEFT JOIN mau.users u ON p.user_id = "
                                    "u.user_id"
                                    " WHERE u.appservice_id IS NULL OR u.appservice_id = ''") *
                         1e6;
              }}},
            std::min(3, scale.rounds));
        add("d", "monthly_active_count, " + n + " members", r.value(0), "us", r.ratio(1, 0),
            "so many times faster than a join", "<= 20", true);
    }
}

// --- (e) Reaping
// ------------------------------------------------------------------------------------------------

void reaping() {
    make_database("bench_reap");
    pq::Connection connection = connect("bench_reap");
    fill(connection, scale.reaped, "30 days", "0 days");
    connection.must("SET work_mem = '4MB'");
    connection.must("SELECT mau.monthly_active_count()");
    for (const int percent : {1, 25}) {
        const std::string at = "now() + interval '30 days' * " + std::to_string(percent) + " / 100";
        const double rows = static_cast<double>(scale.reaped) * percent / 100;
        // Rolled back, so that every round finds the same; commit is nothing beside it.
        auto undone = [&](const std::string& sql) {
            return Contender{sql, [&connection, sql, rows] {
                                 connection.must("VACUUM mau.users, mau.monthly_active_users, bench.plain");
                                 connection.must("CHECKPOINT");
                                 connection.must("BEGIN");
                                 const double seconds = seconds_of(connection, sql);
                                 connection.must("ROLLBACK");
                                 return seconds / rows * 1e6;
                             }};
        };
        const Results r = take_turns({undone("DELETE FROM bench.plain WHERE \"timestamp\" < bench.ms(" + at +
                                             ") - 30 * 86400000::bigint"),
                                      undone("SELECT * FROM mau.reap(" + at + ")")},
                                     3);
        const std::string what = std::to_string(percent) + " % of " + std::to_string(scale.reaped);
        add("e", "plain DELETE of " + what, r.value(0), "us/row");
        add("e", "reap of " + what + ", default work_mem", r.value(1), "us/row", r.ratio(1, 0),
            "plain DELETE", "<= 10");
    }
}

// --- (f) Sync
// ---------------------------------------------------------------------------------------------------

void syncing() {
    for (const long users : scale.servers) {
        make_database("bench_sync");
        pq::Connection connection = connect("bench_sync");
        make_homeserver(connection, users);
        // A row for each address that a device has used: eight for a user.
        connection.must(
            "INSERT INTO public.user_ips SELECT user_id, access_token, device_id, '10.1.' || i || '.1', "
            "user_agent, last_seen - i * 72000000 FROM public.user_ips, generate_series(1, 7) i");
        connection.must("VACUUM ANALYZE public.user_ips");
        connection.must("SELECT mau.attach('synapse')");
        connection.must("SELECT mau.sync()");
        std::vector<double> syncs, scans, deltas;
        for (int round = 0; round < 4; ++round) {
            // Five minutes: one in fifty users was seen.
            connection.must(
                "UPDATE public.user_ips SET last_seen = bench.ms(clock_timestamp()) - (random() * "
                "1000)::bigint WHERE ip LIKE '10.0.%' AND user_id IN (SELECT '@user'"
                " || (4 * floor(random() * " +
                std::to_string(users / 4) + "))::bigint || ':example.com' FROM generate_series(1, " +
                std::to_string(users / 50) + "))");
            const pq::Result until = connection.must("SELECT coalesce(activity_until, 0) FROM mau.source");
            std::this_thread::sleep_for(std::chrono::milliseconds(1100));
            const std::string scan =
                "SELECT count(*), max(length(user_id) + length(user_agent)) FROM (SELECT user_id, "
                "user_agent, last_seen FROM"
                " public.user_ips WHERE last_seen > " +
                until.text(0, 0) + " ORDER BY last_seen OFFSET 0) x";
            connection.must(scan);
            const double scanned = seconds_of(connection, scan);
            const long long rows = connection.must(scan).integer(0, 0);
            const double synced = seconds_of(connection, "SELECT mau.sync()");
            if (round == 0) continue;
            scans.push_back(scanned / static_cast<double>(rows) * 1e6);
            syncs.push_back(synced / static_cast<double>(rows) * 1e6);
            deltas.push_back(static_cast<double>(rows));
        }
        const std::string what = ", " + std::to_string(users) + " users, delta of " + digits(median(deltas));
        add("f", "bare index range scan" + what, median(scans), "us/row");
        add("f", "sync" + what, median(syncs), "us/row", median(syncs) / median(scans),
            "bare index range scan");
        // Nothing differs, as on most days.
        auto contender = [&connection](const std::string& sql) {
            return Contender{sql, [&connection, sql] { return seconds_of(connection, sql) * 1e3; }};
        };
        const Results r =
            take_turns({contender("SELECT count(*), max(last_seen) FROM (SELECT user_id, max(last_seen) "
                                  "AS last_seen FROM public.user_ips GROUP BY user_id OFFSET 0) s"),
                        contender("SELECT * FROM mau.reconcile()")},
                       3);
        const std::string server = ", " + std::to_string(users) + " users";
        add("f", "each user's newest row, by GROUP BY" + server, r.value(0), "ms");
        add("f", "reconcile" + server, r.value(1), "ms", r.ratio(1, 0), "the GROUP BY", "<= 2");
    }
}

}  // namespace

int main(int argc, char** argv) {
    auto environment = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value ? value : "");
    };
    if (environment("BENCH_SCALE") == "small") {
        scale.full = false;
        scale.seconds = 1;
        scale.rounds = 3;
        scale.members = 20000;
        scale.cohorts = {10000, 50000};
        scale.reaped = 100000;
        scale.servers = {50000};
    }
    if (!environment("BENCH_SECONDS").empty())
        scale.seconds = std::atof(environment("BENCH_SECONDS").c_str());
    const std::string parts = argc > 1 ? argv[1] : "abcdef";
    const std::map<char, void (*)()> all = {{'a', one_call}, {'b', batches}, {'c', admissions},
                                            {'d', counts},   {'e', reaping}, {'f', syncing}};
    figures::Table::heading();
    int status = 0;
    for (const auto& [part, run] : all) {
        if (parts.find(part) == std::string::npos && !(part == 'a' && parts.find('b') != std::string::npos))
            continue;
        try {
            run();
        } catch (const std::exception& e) {
            std::fprintf(stderr, "bench (%c): %s\n", part, e.what());
            status = 1;
        }
    }
    table.write_json("bench.json", scale.full);
    return status;
}
