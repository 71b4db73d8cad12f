// make bench, part h: the cost of the history's questions. Users and their visits are made up, encoded by the
// pure rooms and copied straight into mau.active_days; the same visits go into a plain table, of which SQL
// and HyperLogLog are asked the same. Times are processor time of the one backend, so that nobody else at
// work on the machine shows. Shows a table and adds its lines to bench.json. Speaks to the server that
// PGHOST, … lead to.

#include "bitmap/bitmap.hpp"

#include "../load/pq.hpp"
#include "figures.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>

namespace {

using mau::bitmap::Bits;

// --- Figures
// ----------------------------------------------------------------------------------------------------

using figures::digits;
figures::Table table;
bool full = true;

/// `wanted`, such as "<= 100", is about the ratio where there is one; it holds for the full scale.
void add(const std::string& what, double value, const std::string& unit, const std::string& wanted = "",
         double ratio = NAN, const std::string& against = "") {
    const int good = full ? figures::as_wanted(wanted, std::isnan(ratio) ? value : ratio) : -1;
    table.add({"h", what, unit, against, wanted, value, ratio, good});
}

// --- Made-up users
// ----------------------------------------------------------------------------------------------

constexpr int kDays = 365;
constexpr const char* kFirst = "2025-01-01";  // they visit in 2025
constexpr int kFirstDay = 9132;               // as PostgreSQL's date
constexpr double kVisitsPerUser = 24;

class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
    double unit() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }

  private:
    std::uint64_t state_;
};

/// A user: a few come nearly every day, most now and then, and a third leaves for good. Four in ten were
/// there before the year began; the others registered in the course of it, in the order of their numbers.
struct User {
    int from, to;  // days
    double daily;  // how likely a visit on a day is
    int client;    // 1 to 4
    Random random;

    User(long number, long users) : random(static_cast<std::uint64_t>(number) * 0x5851F42D4C957F2D + 1) {
        const double place = static_cast<double>(number) / static_cast<double>(users);
        from = place < 0.4 ? 0 : static_cast<int>((place - 0.4) / 0.6 * kDays);
        const double stay = -std::log(random.unit()) * 180;
        to =
            random.unit() < 0.33 && stay < kDays ? std::min(kDays, from + 1 + static_cast<int>(stay)) : kDays;
        const double r = random.unit();
        daily = std::min(0.95, 0.7 * r * r * r * r * kCalibration);
        const double c = random.unit();
        client = c < 0.35 ? 3 : c < 0.65 ? 1 : c < 0.85 ? 4 : 2;
    }
    static constexpr double kCalibration = 0.8092;  // so that it comes to kVisitsPerUser

    template <class F>
    void for_each_visit(F&& f) {
        const double log_of_none = std::log1p(-daily);
        for (double day = from;;) {
            day += std::floor(std::log(random.unit()) / log_of_none);
            if (!(day < to)) return;
            f(static_cast<int>(day));
            ++day;
        }
    }
};

bool is_guest(long number) {
    return number % 211 == 0;
}
bool is_support(long number) {
    return number % 5003 == 0;
}

// --- Loading
// ----------------------------------------------------------------------------------------------------

pq::Connection connect(const std::string& database) {
    pq::Connection connection("dbname=" + database);
    if (!connection.alive()) throw std::runtime_error(connection.trouble());
    connection.must(
        "SET client_min_messages = warning; SET max_parallel_workers_per_gather = 0; SET jit = off; SET "
        "datestyle = ISO");
    return connection;
}

/// Rows on their way into a table, in COPY's binary format.
class Copy {
  public:
    Copy(pq::Connection& connection, const std::string& target) : connection_(connection.get()) {
        const pq::Result result(
            PQexec(connection_, ("COPY " + target + " FROM STDIN (FORMAT binary)").c_str()));
        if (result.status() != PGRES_COPY_IN) throw std::runtime_error(result.message());
        bytes_.append("PGCOPY\n\377\r\n\0", 11).append(8, '\0');
    }
    void row(int columns) {
        if (bytes_.size() > 1 << 16) send();
        big(static_cast<std::uint64_t>(columns), 2);
    }
    void integer(std::int64_t value, int size) {
        big(static_cast<std::uint64_t>(size), 4);
        big(static_cast<std::uint64_t>(value), size);
    }
    void bytes(const void* data, std::size_t size) {
        big(size, 4);
        bytes_.append(static_cast<const char*>(data), size);
    }
    void text(const std::string& value) { bytes(value.data(), value.size()); }
    void null() { bytes_.append(4, '\377'); }
    void end() {
        big(0xFFFF, 2);
        send();
        PQputCopyEnd(connection_, nullptr);
        const pq::Result result(PQgetResult(connection_));
        if (!result.ok()) throw std::runtime_error(result.message());
        while (PGresult* rest = PQgetResult(connection_)) PQclear(rest);
    }

  private:
    void big(std::uint64_t value, int size) {
        for (int i = size - 1; i >= 0; --i) bytes_ += static_cast<char>(value >> (8 * i));
    }
    void send() {
        if (PQputCopyData(connection_, bytes_.data(), static_cast<int>(bytes_.size())) != 1)
            throw std::runtime_error(PQerrorMessage(connection_));
        bytes_.clear();
    }
    PGconn* connection_;
    std::string bytes_;
};

pq::Connection make_database(const std::string& name) {
    pq::Connection postgres = connect("postgres");
    postgres.must("DROP DATABASE IF EXISTS " + name);
    postgres.must("CREATE DATABASE " + name);
    pq::Connection connection = connect(name);
    connection.must("CREATE EXTENSION mau");
    connection.must("UPDATE mau.settings SET history_retention = '100 years'");
    return connection;
}

/// Writes the accounts; those only that are not counted, if that is what is wanted: the others' rows are not
/// read.
void load_users(const std::string& database, long users, bool all) {
    pq::Connection connection = connect(database);
    Copy copy(connection, "mau.users (user_no, user_id, registered_at, is_registered, is_guest, user_type)");
    for (long number = 0; number < users; ++number) {
        if (!all && !is_guest(number) && !is_support(number)) continue;
        User user(number, users);
        const std::int64_t day = 20089 + user.from - (user.from == 0 ? 1 + number % 300 : 0);
        copy.row(6);
        copy.integer(number, 8);
        copy.text("@user" + std::to_string(number) + ":example.com");
        copy.integer(day * 86400000 + number % 86400000, 8);
        copy.integer(1, 1);
        copy.integer(is_guest(number), 1);
        if (is_support(number))
            copy.text("support");
        else
            copy.null();
    }
    copy.end();
    connection.must("CHECKPOINT");  // only what is on disk can be marked as visible to all
    connection.must("VACUUM ANALYZE mau.users");
}

/// Writes the visits as bitmaps: one client a user, or four, of which each visit is by one and some by two.
/// Answers how many there are, each client for itself.
long load_days(const std::string& database, long users, bool mixed, std::vector<Bits>* keep = nullptr) {
    pq::Connection connection = connect(database);
    Copy copy(connection, "mau.active_days (chunk, day, platform, service, users)");
    long visits = 0;
    std::vector<Bits> days(static_cast<std::size_t>(kDays * (mixed ? 5 : 1)));
    std::uint8_t encoded[mau::bitmap::encoded_size(mau::bitmap::kUsers)];
    for (long chunk = 0; chunk << 16 < users; ++chunk) {
        for (Bits& day : days) day.clear();
        for (long number = chunk << 16; number < std::min(users, (chunk + 1) << 16); ++number) {
            User user(number, users);
            user.for_each_visit([&](int day) {
                const auto at = static_cast<std::size_t>(day);
                const auto place = static_cast<std::uint16_t>(number);
                if (!mixed) {
                    days[at].set(place);
                    return;
                }
                const std::uint64_t dice = user.random.next() % 16;
                if (dice != 0) days[at * 5 + static_cast<std::size_t>(user.client)].set(place);
                if (dice < 3) days[at * 5 + 1 + user.random.next() % 4].set(place);
            });
        }
        for (std::size_t i = 0; i < days.size(); ++i) {
            const std::size_t size =
                mau::bitmap::encode(days[i], mau::bitmap::key_of(static_cast<std::uint64_t>(chunk)), encoded);
            if (size == 0) continue;
            visits += days[i].count();
            copy.row(5);
            copy.integer(chunk, 4);
            copy.integer(kFirstDay + static_cast<int>(mixed ? i / 5 : i), 4);
            copy.integer(mixed ? static_cast<int>(i % 5) : 1, 2);
            copy.text("native");
            copy.bytes(encoded, size);
        }
        if (keep) keep->insert(keep->end(), days.begin(), days.end());
    }
    copy.end();
    connection.must("CHECKPOINT");
    connection.must("VACUUM ANALYZE mau.active_days");
    return visits;
}

/// The same visits as rows of a plain table, a day after the other.
void load_plain(const std::string& database, const std::vector<Bits>& days) {
    pq::Connection connection = connect(database);
    connection.must("CREATE UNLOGGED TABLE plain (user_no integer NOT NULL, day date NOT NULL)");
    Copy copy(connection, "plain");
    const std::size_t chunks = days.size() / kDays;
    for (std::size_t day = 0; day < kDays; ++day)
        for (std::size_t chunk = 0; chunk < chunks; ++chunk)
            days[chunk * kDays + day].for_each([&](std::uint16_t place) {
                copy.row(2);
                copy.integer(static_cast<std::int64_t>(chunk << 16) + place, 4);
                copy.integer(kFirstDay + static_cast<int>(day), 4);
            });
    copy.end();
    connection.must("SET maintenance_work_mem = '512MB'");
    connection.must("CREATE INDEX ON plain (day)");
    connection.must("VACUUM ANALYZE plain");
}

// --- Measuring
// --------------------------------------------------------------------------------------------------

double processor_time(const pq::Connection& connection) {
    double nanoseconds = 0;
    if (FILE* file = std::fopen(("/proc/" + std::to_string(connection.pid()) + "/schedstat").c_str(), "r")) {
        if (std::fscanf(file, "%lf", &nanoseconds) != 1) nanoseconds = 0;
        std::fclose(file);
    }
    if (nanoseconds > 0) return nanoseconds / 1e9;
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Milliseconds of a statement: of `runs` in one session, after one that warms up, the median.
double cost(pq::Connection& connection, const std::string& sql, int runs = 7) {
    std::vector<double> times;
    for (int run = runs > 1 ? -1 : 0; run < runs; ++run) {
        const double start = processor_time(connection);
        connection.must(sql);
        if (run >= 0) times.push_back((processor_time(connection) - start) * 1000);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

/// The memory of its own that a backend has, in MB.
double own_memory(int pid) {
    double kilobytes = 0;
    if (FILE* file = std::fopen(("/proc/" + std::to_string(pid) + "/status").c_str(), "r")) {
        for (char line[256]; std::fgets(line, sizeof line, file);)
            std::sscanf(line, "RssAnon: %lf", &kilobytes);
        std::fclose(file);
    }
    return kilobytes / 1024;
}

/// The most of it while a new session runs a statement; looked at all the time.
double peak_memory(const std::string& database, const std::string& sql) {
    pq::Connection connection = connect(database);
    std::atomic<bool> done{false};
    double most = 0;
    std::thread watch([&, pid = connection.pid()] {
        while (!done) {
            most = std::max(most, own_memory(pid));
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        }
    });
    const pq::Result result = connection.run(sql);
    done = true;
    watch.join();
    if (!result.ok()) throw std::runtime_error(result.message());
    return most;
}

std::vector<std::pair<std::string, std::string>> questions() {
    const std::string year = "('2025-01-01', '2025-12-31')";
    return {{"daily_series", "SELECT sum(dau + wau + mau + new_users) FROM mau.daily_series" + year},
            {"growth", "SELECT sum(churned) FROM mau.growth" + year},
            {"r30v2_series", "SELECT sum(users) FROM mau.r30v2_series" + year},
            {"retention", "SELECT sum(users) FROM mau.retention('week', '2024-12-30', '2025-12-28')"},
            {"days_active", "SELECT sum(users) FROM mau.days_active('2025-12-31', '365 days')"},
            {"active_users, at least 2", "SELECT mau.active_users('365 days', '2025-12-31', 'native', 2)"},
            {"billing_months", "SELECT sum(users) FROM mau.billing_months" + year}};
}

/// The first three questions by the aggregates of the warehouse: of the first the monthly users only.
std::vector<std::pair<std::string, std::string>> questions_of_warehouse() {
    const auto over_chunks = [](const std::string& sum, const std::string& figures,
                                const std::string& left_out) {
        return "SELECT " + sum + " FROM (SELECT " + figures +
               " FROM mau.active_days d LEFT JOIN (SELECT chunk, users AS mask FROM mau.masks"
               " WHERE kind = '" +
               left_out + "') m USING (chunk) WHERE d.service = 'native' GROUP BY d.chunk) c";
    };
    const std::string of = "(SELECT sum(u) FROM unnest(mau.add(";
    return {
        {"monthly users of daily_series",
         over_chunks(of + "a)) u)", "mau.series('2025-01-01', '2025-12-31', 30, d.day, d.users, mask) AS a",
                     "not_counted")},
        {"growth", over_chunks("(SELECT sum(s.figures[i][4]) FROM (SELECT mau.add(a)) s(figures),"
                               " generate_series(1, 365) i)",
                               "mau.series_growth('2025-01-01', '2025-12-31', 30, d.day, d.users, mask) AS a",
                               "not_counted")},
        {"r30v2_series",
         over_chunks(of + "a)) u)", "mau.series_r30v2('2025-01-01', '2025-12-31', d.day, d.users, mask) AS a",
                     "guest")}};
}

std::string millions(long users) {
    return users % 1000000 == 0 ? std::to_string(users / 1000000) + " M users"
                                : std::to_string(users / 1000) + " k users";
}

/// What `sql` answers in its first column, row by row.
std::vector<double> column(pq::Connection& connection, const std::string& sql) {
    const pq::Result result = connection.must(sql);
    std::vector<double> values;
    for (int i = 0; i < result.rows(); ++i) values.push_back(std::atof(result.text(i, 0).c_str()));
    return values;
}

void show_storage(pq::Connection& connection, const std::string& what, long visits,
                  const std::string& wanted) {
    const double bytes = column(connection, "SELECT pg_total_relation_size('mau.active_days')")[0];
    add("storage of " + digits(static_cast<double>(visits) / 1e6) + " M visits, " + what, bytes / 1048576,
        "MB");
    add("  a visit", bytes / static_cast<double>(visits), "bytes", wanted);
}

/// Asks SQL what daily_series says, over the plain table.
void against_sql(pq::Connection& connection, double ours) {
    const double islands =
        cost(connection,
             "CREATE TEMP TABLE islands AS SELECT e.day, sum(sum(n)) OVER (ORDER BY e.day) AS mau FROM"
             " (SELECT day, lag(day) OVER o AS before, lead(day) OVER o AS after FROM plain WINDOW o AS "
             "(PARTITION BY user_no ORDER BY day)) w,"
             " LATERAL (VALUES (w.day, 1, before IS NULL OR w.day - before > 30), (w.day + 30, -1, after IS "
             "NULL OR after - w.day > 30)) e(day, n, counts)"
             " WHERE counts GROUP BY e.day",
             1);
    add("MAU by lag/lead islands in SQL", islands / 1000, "s", ">= 200", islands / ours,
        "daily_series faster");
    double distinct = 0;
    for (int window = 0; window < 12; ++window) {
        const std::string last = "date '2025-01-31' + " + std::to_string(window * 30);
        distinct += cost(
            connection,
            "SELECT count(DISTINCT user_no) FROM plain WHERE day > " + last + " - 30 AND day <= " + last, 1);
    }
    distinct *= kDays / 12.0;
    add("MAU by count(DISTINCT), 12 windows extrapolated", distinct / 1000, "s", ">= 1000", distinct / ours,
        "daily_series faster");
}

/// What HyperLogLog takes for the same, and how wrong it is.
void against_hll(pq::Connection& connection, double ours) {
    if (!connection.run("CREATE EXTENSION hll").ok()) {
        std::printf("h   no HyperLogLog to compare with: postgresql-…-hll is not installed\n");
        return;
    }
    for (const char* log2m : {"11", "15"}) {
        connection.must("DROP TABLE IF EXISTS sketches");
        connection.must(
            std::string("CREATE TABLE sketches AS SELECT day, hll_add_agg(hll_hash_integer(user_no), ") +
            log2m + ") AS h FROM plain GROUP BY day");
        connection.must("VACUUM ANALYZE sketches");
        const std::string sql =
            "SELECT day, # h AS dau, # hll_union_agg(h) OVER (ORDER BY day ROWS 6 PRECEDING) AS wau,"
            " # hll_union_agg(h) OVER (ORDER BY day ROWS 29 PRECEDING) AS mau FROM sketches";
        const double theirs = cost(connection, "SELECT sum(dau + wau + mau) FROM (" + sql + ") x", 3);
        const std::vector<double> errors = column(
            connection,
            "SELECT abs(h.mau / s.mau - 1) * 100 FROM (" + sql +
                ") h JOIN mau.daily_series('2025-01-01', '2025-12-31', kind => 'everybody') s USING (day)");
        const double bytes = column(connection, "SELECT pg_total_relation_size('sketches')")[0];
        double sum = 0;
        for (const double error : errors) sum += error;
        const std::string name = std::string("HyperLogLog, log2m ") + log2m;
        add(name + ": DAU, WAU, MAU", theirs, "ms", "", theirs / ours, "daily_series faster");
        add("  wrong by, mean", sum / static_cast<double>(errors.size()), "%");
        add("  wrong by, at most", *std::max_element(errors.begin(), errors.end()), "%");
        add("  storage", bytes / 1048576, "MB");
    }
}

/// Fewer users and the same questions, to see how the cost grows.
std::vector<double> ask(const std::string& database, long users, const std::vector<std::string>& wanted,
                        bool with_accounts) {
    pq::Connection connection = connect(database);
    std::vector<double> costs;
    const auto all = questions();
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (!with_accounts && all[i].first == "retention") {
            costs.push_back(NAN);
            continue;
        }
        costs.push_back(cost(connection, all[i].second));
        add(all[i].first + ", 365 days, " + millions(users), costs.back(), "ms",
            i < wanted.size() ? wanted[i] : "");
    }
    const auto aggregates = questions_of_warehouse();
    for (std::size_t i = 0; i < aggregates.size(); ++i) {
        const double theirs = cost(connection, aggregates[i].second);
        add(aggregates[i].first + " by the aggregates, " + millions(users), theirs, "ms", "",
            theirs / costs[i], "times as long");
    }
    // The same figures, or none of these is worth anything.
    const std::string series = "SELECT sum(mau) FROM mau.daily_series('2025-01-01', '2025-12-31')";
    if (column(connection, aggregates[0].second) != column(connection, series) ||
        column(connection, aggregates[1].second) != column(connection, all[1].second) ||
        column(connection, aggregates[2].second) != column(connection, all[2].second))
        throw std::runtime_error("the aggregates and the functions do not agree");
    return costs;
}

void show_growth(const std::vector<double>& small, const std::vector<double>& large, long times) {
    const auto all = questions();
    for (std::size_t i = 0; i < 3; ++i)
        add(all[i].first + ", " + std::to_string(times) + " times the users", large[i] / small[i],
            "times as long", "<= " + digits(1.1 * static_cast<double>(times)));
}

void measure(long few, long many, long most) {
    make_database("bench_history");
    std::vector<Bits> days;
    load_users("bench_history", many, true);
    const long visits = load_days("bench_history", many, false, &days);
    load_plain("bench_history", days);
    days.clear(), days.shrink_to_fit();

    const std::vector<double> costs =
        ask("bench_history", many, {"<= 100", "<= 150", "<= 150", "<= 100"}, true);
    pq::Connection connection = connect("bench_history");
    show_storage(connection, "one client a user", visits, "<= 2");
    add("daily_series, peak of the backend's own memory", peak_memory("bench_history", questions()[0].second),
        "MB", "<= 64");
    // The same figures, or none of these is worth anything.
    against_sql(connection, costs[0]);
    if (column(connection,
               "SELECT count(*) FROM islands i JOIN mau.daily_series('2025-01-01', '2025-12-31', kind => "
               "'everybody') s USING (day) WHERE i.mau = s.mau")[0] != kDays)
        throw std::runtime_error("SQL and daily_series do not agree");
    against_hll(connection, costs[0]);

    {
        make_database("bench_history_mixed");
        load_users("bench_history_mixed", many, false);
        const long marks = load_days("bench_history_mixed", many, true);
        pq::Connection mixed = connect("bench_history_mixed");
        show_storage(mixed, "a mix of four clients", marks, "");
        add("daily_series, 365 days, a mix of four clients", cost(mixed, questions()[0].second), "ms");
    }
    make_database("bench_history_few");
    load_users("bench_history_few", few, true);
    load_days("bench_history_few", few, false);
    show_growth(ask("bench_history_few", few, {}, true), costs, many / few);

    make_database("bench_history_most");
    load_users("bench_history_most", most, false);
    load_days("bench_history_most", most, false);
    show_growth(costs, ask("bench_history_most", most, {"<= 700"}, false), most / many);
    for (const auto& [name, sql] : questions())
        if (name != "retention")
            add(name + ", peak of the backend's own memory", peak_memory("bench_history_most", sql), "MB",
                "<= 64");
    for (const char* name :
         {"bench_history", "bench_history_mixed", "bench_history_few", "bench_history_most"})
        if (!std::getenv("KEEP"))
            connect("postgres").must(std::string("DROP DATABASE ") + name + " WITH (FORCE)");
}

}  // namespace

int main() {
    const char* size = std::getenv("BENCH_SCALE");
    full = !(size && std::strcmp(size, "small") == 0);
    int status = 0;
    try {
        if (full)
            measure(100000, 1000000, 10000000);
        else
            measure(20000, 100000, 1000000);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench (h): %s\n", e.what());
        status = 1;
    }
    table.write_json("bench.json", full);
    return status;
}
