// Many clients who admit newcomers to a server with a limit, in every shape of transaction, while a watcher counts and
// things go wrong on purpose. For test/t/200_cap.pl; prints what came of it as lines of "name value".
//
// Each client takes the next newcomer (or, now and then, somebody who came already) and puts one to four of them
// through one transaction: a plain call, several in a transaction block, under savepoints of which some are rolled
// back, in plpgsql exception blocks, as a batch. It knows from the answers who must be in the cohort when it has
// committed, and at the end the table is held against that. With --days it also keeps each visit that was acknowledged,
// for the test to compare with the history. Beside the clients, statements of an administrator can be repeated.

#include "pq.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <set>
#include <thread>

namespace {

using Random = std::mt19937_64;

/// An action beside the clients. It is repeated after a number of transactions, or done once, when a number of
/// newcomers have come.
struct Event {
    long long at;
    long long every;  // a number of transactions; 0: done once, and `at` is a number of newcomers
    std::function<void()> happen;
};

struct Options {
    std::string conninfo;
    int clients = 16;
    int users = 10000;
    std::string max = "1000000";        // the most that there may be, to show when there are more
    std::string prefix = "@new";
    std::vector<std::string> also;      // prefixes of further users, taken at random: "@old:600"
    std::string isolation = "read committed";  // "both": every second client in REPEATABLE READ
    std::string shape = "mixed";        // or "plain": one call a transaction; "same": all clients, one user
    int rollback = 20;                  // percent of the transactions, and of the savepoints
    int again = 10;                     // percent of the picks that take somebody who came already
    unsigned long long seed = 1;
    std::string lock_timeout = "20s";
    bool hold = false;                  // one more session admits somebody and sits in its transaction
    bool losses = false;                // connections may be lost
    bool rows_go = false;               // somebody removes rows: do not ask for those that were admitted
    bool extension_goes = false;        // somebody drops the extension: calls may find that it is not there
    int days = 0;                       // sightings are of the last so many days, with a user agent; 0: of now
    std::string visits_to;              // the file for acknowledged visits; FILE.possible for those that may be there
    bool homeserver = false;            // some sightings are rows of user_ips, whose trigger records them; and reports
    long long beside_every = 20;        // transactions between two rounds of what is done beside
    std::vector<std::pair<std::string, std::string>> beside;  // database ("": the clients'), statements, a line each
    long long kill_every = 0, terminate_every = 0;
    std::vector<std::pair<long long, std::string>> sql_at, sql_every, sh_at;
};

Options options;

// --- What came of it --------------------------------------------------------------------------------------------

std::atomic<long long> progress{0}, errors{0}, disconnects{0}, next_user{0}, samples{0}, most{0}, waits{0}, kills{0},
    admin_errors{0}, arrived{0}, warnings{0}, gone{0}, beside_done{0}, samples_over{0};
std::atomic<bool> over{false};
std::atomic<long long> next_event{INT64_MAX};  // the number of newcomers at which the next one-time action is due
std::mutex mutex;
std::string first_error;
std::set<std::string> certain, possible;  // who was admitted in a transaction that committed; that may have

constexpr long long kDay = 86400000;
constexpr int kPlatforms = 5;
constexpr const char* kAgents[kPlatforms] = {"curl/8.0", "Mozilla/5.0 (X11; Linux x86_64)", "Element/1.11 Electron/27",
                                             "Element/1.6 (Android 14)", "Element/1.10 (iPhone; iOS 17)"};
const long long started_at = std::chrono::duration_cast<std::chrono::milliseconds>(
                                 std::chrono::system_clock::now().time_since_epoch())
                                 .count();

/// A user was active some days ago with a client.
struct Visit {
    std::string user;
    long long at = 0;  // epoch milliseconds
    int platform = 0;
};
std::vector<Visit> acknowledged, possible_visits;
std::vector<std::atomic<int>> pids(1024);

void note_error(std::atomic<long long>& counter, const std::string& what) {
    ++counter;
    const std::lock_guard<std::mutex> guard(mutex);
    if (first_error.empty()) first_error = what;
}

// --- A client ---------------------------------------------------------------------------------------------------

/// Whether an error means that the connection is gone: the server says so, or nobody answers.
bool is_lost(const pq::Connection& connection, const pq::Result& result) {
    const std::string state = result.state();
    return !connection.alive() || state.empty() || state == "57P01" || state == "57P02" || state == "57P03";
}

struct Lost {};   // the connection is gone
struct Broken {}; // an error: the transaction is to be rolled back

class Client {
  public:
    Client(int number) : number_(number), random_(options.seed * 1000003 + static_cast<unsigned>(number)) {}

    void work() {
        connect();
        while (true) {
            try {
                if (!transaction()) break;
            } catch (const Lost&) {
                ++disconnects;
                if (!options.losses) note_error(errors, "connection lost: " + connection_.trouble());
                keep(false);
                connect();
            } catch (const Broken&) {
                keep(false);
                connection_.run("ROLLBACK");
                if (options.extension_goes) wait_for_extension();
            }
            levels_.clear();
            ++progress;
        }
    }

    void wait_for_extension() {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (std::chrono::steady_clock::now() < give_up) {
            const pq::Result there = connection_.run("SELECT FROM pg_extension WHERE extname = 'mau'");
            if (!there.ok() || there.rows() > 0) return;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    /// Admits newcomers one by one, by plain calls.
    void fill(int count) {
        connect();
        for (int i = 0; i < count; ++i) {
            levels_.assign(1, {});
            call(options.prefix + std::to_string(options.users + i));
            keep(true);
        }
    }

  private:
    using Users = std::vector<std::string>;
    using Visits = std::vector<Visit>;
    struct Level {
        Users certain, possible;
        Visits visits, possible_visits;
    };

    /// A call that could not be kept is answered with a warning, and is not acknowledged.
    static void on_notice(void* client, const PGresult* notice) {
        const char* const state = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
        if (state && std::strcmp(state, "55P03") == 0) static_cast<Client*>(client)->warned_ = true;
    }

    void connect() {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        const std::string isolation = options.isolation != "both" ? options.isolation
                                      : number_ % 2               ? "repeatable read"
                                                                  : "read committed";
        while (true) {
            connection_ = pq::Connection(options.conninfo + " application_name=cap_client");
            if (connection_.alive() &&
                connection_.run("SET lock_timeout = '" + options.lock_timeout + "'; SET synchronous_commit = on;"
                                " SET default_transaction_isolation = '" + isolation + "'").ok())
                break;
            if (std::chrono::steady_clock::now() > give_up || !options.losses) {
                note_error(errors, "cannot connect: " + connection_.trouble());
                std::fprintf(stderr, "%s\n", first_error.c_str());
                std::_Exit(2);
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        PQsetNoticeReceiver(connection_.get(), on_notice, this);
        pids[static_cast<std::size_t>(number_)] = connection_.pid();
    }

    bool percent(int chance) { return static_cast<int>(random_() % 100) < chance; }

    /// The user to be admitted next; nobody when all have come.
    std::string pick() {
        if (!options.also.empty() && percent(30)) {
            const std::string& which = options.also[random_() % options.also.size()];
            const auto colon = which.rfind(':');
            return which.substr(0, colon) + std::to_string(random_() % std::stoull(which.substr(colon + 1)));
        }
        const long long came = std::min<long long>(next_user.load(), options.users);
        if (came > 0 && percent(options.again)) {
            // Half of them came lately, and may be in other clients' transactions.
            const auto among = static_cast<unsigned long long>(percent(50) ? std::min(came, 20LL) : came);
            return options.prefix + std::to_string(came - 1 - static_cast<long long>(random_() % among));
        }
        const long long mine = next_user.fetch_add(1);
        return mine < options.users ? options.prefix + std::to_string(mine) : "";
    }

    pq::Result run(const std::string& sql, const Users& values = {}) {
        warned_ = false;
        pq::Result result = values.empty() ? connection_.run(sql) : connection_.run(sql, values);
        if (warned_) ++warnings;
        if (result.ok()) return result;
        if (is_lost(connection_, result)) throw Lost{};
        const std::string state = result.state();
        if (options.extension_goes && extension_is_gone(state, result.message())) {
            ++gone;
            throw Broken{};
        }
        note_error(errors, sql + ": " + state + " " + result.message());
        throw Broken{};
    }

    /// No schema, function or table, or mau's own word for that. The function may go after the call was parsed.
    static bool extension_is_gone(const std::string& state, const std::string& message) {
        return state == "3F000" || state == "42883" || state == "42P01" ||
               (state == "55000" && message.find("is missing") != std::string::npos) ||
               (state == "XX000" && message.find("cache lookup failed for function") != std::string::npos);
    }

    /// A sighting of a user on one of the days.
    Visit sighting(const std::string& user) {
        if (options.days == 0) return {user, started_at, 0};
        const auto days_ago = static_cast<long long>(random_() % static_cast<unsigned>(options.days));
        return {user, started_at - days_ago * kDay, static_cast<int>(random_() % kPlatforms)};
    }

    /// Notes a visit of the last call.
    void note(const Visit& visit, bool acknowledged_now) {
        if (options.days == 0) return;
        auto& all = acknowledged_now && !warned_ ? levels_.back().visits : levels_.back().possible_visits;
        all.push_back(visit);
    }

    static bool is_recorded(const std::string& outcome) { return outcome != "off" && outcome != "remote"; }

    void call(const std::string& user) {
        const Visit visit = sighting(user);
        if (options.homeserver && percent(15)) report(user);
        try {
            call(visit);
        } catch (const Lost&) {  // a call outside a transaction block may have been carried out
            levels_.back().possible.push_back(user);
            levels_.back().possible_visits.push_back(visit);
            throw;
        }
    }

    void call(const Visit& visit) {
        const std::string& user = visit.user;
        Users values{user};
        std::string arguments = "$1";
        if (options.days > 0) {
            values = {user, std::to_string(visit.at), kAgents[visit.platform]};
            arguments = "$1, to_timestamp($2::bigint / 1000.0), $3";
        }
        if (options.homeserver && percent(20)) return insert(visit);
        if (percent(50)) {
            const std::string outcome = run("SELECT mau.record_activity(" + arguments + ")", values).text(0, 0);
            if (outcome == "joined") levels_.back().certain.push_back(user);
            else levels_.back().possible.push_back(user);
            note(visit, is_recorded(outcome));
        } else {
            const bool admitted = run("SELECT mau.admit(" + arguments + ")", values).is_null(0, 0);
            if (admitted) levels_.back().possible.push_back(user);
            note(visit, admitted);
        }
    }

    /// What else a homeserver tells and asks of a user.
    void report(const std::string& user) {
        static constexpr const char* kReports[] = {
            "SELECT mau.check_auth_blocking($1)", "SELECT mau.register_user($1, '2024-01-01')",
            "SELECT mau.add_threepid($1, 'email', $1 || '@example.com')",
            "SELECT mau.remove_threepid($1, 'email', $1 || '@example.com')", "SELECT mau.deactivate_user($1)"};
        run(kReports[random_() % std::size(kReports)], {user});
    }

    /// As the homeserver does it: a row of its own, whose trigger calls mau.
    void insert(const Visit& visit) {
        const std::string token = std::to_string(number_) + "-" + std::to_string(++inserted_);
        run("INSERT INTO user_ips (user_id, access_token, ip, user_agent, last_seen) VALUES ($1, $2, '198.51.100.1', $3, $4)",
            {visit.user, token, kAgents[visit.platform], std::to_string(visit.at)});
        levels_.back().possible.push_back(visit.user);
        note(visit, true);
        // A reconcile that finds the row while the sighting is still deferred does not know the client.
        note({visit.user, visit.at, 0}, false);
    }

    static std::string array_of(const Users& users) {
        std::string text;
        for (const std::string& user : users) text += (text.empty() ? "{" : ",") + user;
        return text + "}";
    }

    static Users times_of(const Visits& visits) {
        Users times;
        for (const Visit& visit : visits) times.push_back(std::to_string(visit.at));
        return times;
    }

    /// In plpgsql exception blocks, some of which raise after the admission.
    void call_in_blocks(const Users& users) {
        Users fail;
        Visits visits;
        for (std::size_t i = 0; i < users.size(); ++i) {
            fail.push_back(percent(options.rollback) ? "t" : "f");
            visits.push_back(sighting(users[i]));
            visits.back().platform = 0;
        }
        const pq::Result answers = run("SELECT unnest(load.in_blocks($1, $2, $3))",
                                       {array_of(users), array_of(fail), options.days > 0 ? array_of(times_of(visits)) : "{}"});
        for (std::size_t i = 0; i < users.size(); ++i) {
            const std::string outcome = answers.text(static_cast<int>(i), 0);
            if (outcome == "undone") continue;
            if (outcome == "joined") levels_.back().certain.push_back(users[i]);
            else levels_.back().possible.push_back(users[i]);
            note(visits[i], is_recorded(outcome));
        }
    }

    void call_batch(const Users& users) {
        Users agents;
        Visits visits;
        for (const std::string& user : users) {
            visits.push_back(sighting(user));
            agents.push_back(std::to_string(visits.back().platform));
        }
        if (options.days == 0) {
            run("SELECT mau.record_activities($1, array_fill(now(), ARRAY[cardinality($1::text[])]))", {array_of(users)});
        } else {
            std::string all_agents;
            for (const char* const agent : kAgents) all_agents += std::string(all_agents.empty() ? "{" : ",") + "\"" + agent + "\"";
            const pq::Result outcomes = run(
                "SELECT coalesce(sum(users) FILTER (WHERE outcome IN ('off', 'remote')), 0) FROM mau.record_activities($1,"
                " ARRAY(SELECT to_timestamp(t / 1000.0) FROM unnest($2::bigint[]) t),"
                " ARRAY(SELECT ($4::text[])[a + 1] FROM unnest($3::int[]) a))",
                {array_of(users), array_of(times_of(visits)), array_of(agents), all_agents + "}"});
            for (const Visit& visit : visits) note(visit, outcomes.integer(0, 0) == 0);
        }
        auto& all = levels_.back().possible;
        all.insert(all.end(), users.begin(), users.end());
    }

    void savepoint() {
        run("SAVEPOINT s" + std::to_string(levels_.size()));
        levels_.emplace_back();
    }
    /// Ends the innermost savepoint, one way or another.
    void end_savepoint() {
        Level ended = std::move(levels_.back());
        const std::string name = "s" + std::to_string(levels_.size() - 1);
        if (percent(options.rollback)) {
            run("ROLLBACK TO SAVEPOINT " + name);
            if (percent(50)) {  // what comes after the rollback is in the savepoint again
                levels_.back() = {};
                if (const std::string user = pick(); !user.empty()) call(user);
                ended = std::move(levels_.back());
                run("RELEASE SAVEPOINT " + name);
            } else {
                ended = {};
            }
        } else {
            run("RELEASE SAVEPOINT " + name);
        }
        levels_.pop_back();
        append(levels_.back().certain, ended.certain);
        append(levels_.back().possible, ended.possible);
        append(levels_.back().visits, ended.visits);
        append(levels_.back().possible_visits, ended.possible_visits);
    }

    template <class List>
    static void append(List& to, const List& from) {
        to.insert(to.end(), from.begin(), from.end());
    }

    /// Keeps what this transaction has done, as certain where it has committed, else only as possible.
    void keep(bool committed) {
        const std::lock_guard<std::mutex> guard(mutex);
        for (const Level& level : levels_) {
            (committed ? certain : possible).insert(level.certain.begin(), level.certain.end());
            possible.insert(level.possible.begin(), level.possible.end());
            append(committed ? acknowledged : possible_visits, level.visits);
            append(possible_visits, level.possible_visits);
        }
    }

    /// Waits while the newcomers are more than 100 ahead of a one-time action that is due.
    static void wait_for_event() {
        while (next_user - 100 > next_event) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }

    bool transaction() {
        wait_for_event();
        Users users;
        const int kind = options.shape == "mixed" ? static_cast<int>(random_() % 8) : 0;
        const std::size_t count = kind <= 1 ? 1 : kind == 7 ? 1 + random_() % 12 : 1 + random_() % 4;
        while (users.size() < count) {
            if (std::string user = options.shape == "same" ? next_same() : pick(); !user.empty())
                users.push_back(std::move(user));
            else
                break;
        }
        if (users.empty()) return false;
        levels_.assign(1, {});
        if (kind == 0 && options.shape != "same") {
            call(users[0]);
            keep(true);
            return true;
        }
        run("BEGIN");
        if (percent(50)) run("SELECT count(*) FROM mau.settings");  // fixes the snapshot of REPEATABLE READ
        if (options.shape == "same") {
            call(users[0]);
            run("SELECT pg_sleep(0.003)");  // who waits for us is seen waiting
        } else switch (kind) {
            case 3:
            case 4:
                for (const std::string& user : users) {
                    savepoint();
                    call(user);
                    if (percent(70)) end_savepoint();
                }
                while (levels_.size() > 1 && percent(70)) end_savepoint();
                break;
            case 5:
                savepoint();
                call_in_blocks(users);
                end_savepoint();
                break;
            case 6:
                call_in_blocks(users);
                break;
            case 7:
                call_batch(users);
                break;
            default:
                for (const std::string& user : users) call(user);
        }
        if (percent(options.rollback)) {
            run("ROLLBACK");
        } else {
            run("COMMIT");
            keep(true);
        }
        return true;
    }

    /// Everybody's user, one after the other, for all clients at the same time.
    std::string next_same() {
        if (turn_ == options.users) return {};
        ++arrived;
        while (arrived < static_cast<long long>(options.clients) * (turn_ + 1)) std::this_thread::yield();
        return options.prefix + std::to_string(turn_++);
    }

    int number_;
    int turn_ = 0;
    Random random_;
    pq::Connection connection_;
    std::vector<Level> levels_;
    bool warned_ = false;  // by the last statement
    int inserted_ = 0;
};

// --- Those who look on ------------------------------------------------------------------------------------------

/// The rule itself, by the wall clock: what there is at this instant, whoever was told what. With --max setting the most
/// that there may be is what the setting says in the same snapshot.
std::string count_query() {
    const std::string most = options.max == "setting" ? "(SELECT max_mau_value::bigint FROM mau.settings)" : options.max + "::bigint";
    return "SELECT count(*), CASE WHEN count(*) > " + most +
           " THEN string_agg(format('%s since %s, %s ms left', user_id, xmin, \"timestamp\" -"
           " (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 30 * 86400000::bigint), E'\\n' ORDER BY age(xmin)) END,"
           " greatest(count(*) - " + most + ", 0)"
           " FROM mau.monthly_active_users WHERE service = 'native' AND \"timestamp\" >="
           " floor(extract(epoch FROM clock_timestamp()) * 1000) - 30 * 86400000::bigint";
}

void watch(int holder_pid) {
    pq::Connection connection;
    const std::string count = count_query();
    // A statement may be undone for a wait, which lasts a millisecond, or longer where a process gets no processor.
    const bool stressed = options.losses || options.extension_goes;
    const std::string for_long =
        stressed ? " AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted"
                   " AND l.waitstart < clock_timestamp() - interval '0.2 s')"
                 : "";
    while (!over) {
        if (!connection.alive()) connection = pq::Connection(options.conninfo + " application_name=cap_watcher");
        const pq::Result result = connection.run(count);
        if (result.ok()) {
            ++samples;
            if (!result.is_null(0, 1) && result.integer(0, 0) > most)
                std::fprintf(stderr, "%s members:\n%.1000s\n", result.text(0, 0).c_str(), result.text(0, 1).c_str());
            most = std::max(most.load(), result.integer(0, 0));
            if (result.integer(0, 2) > 0) ++samples_over;
        } else if (!options.losses && !options.extension_goes) {
            note_error(errors, "watcher: " + result.message());
        }
        // Clients who wait for another's transaction.
        const pq::Result blocked = connection.run(
            "SELECT count(*) FROM pg_stat_activity a WHERE application_name = 'cap_client' AND wait_event_type = 'Lock'"
            " AND (wait_event IN ('transactionid', 'tuple', 'spectoken') OR " +
            std::to_string(holder_pid) + " = ANY (pg_blocking_pids(pid)))"
            " AND EXISTS (SELECT FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid))"
            "             AND b.application_name IN ('cap_client', 'cap_holder'))" + for_long);
        if (blocked.ok()) waits += blocked.integer(0, 0);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

/// Runs an administrator's statement; one that loses its connection is made again.
void run_as_admin(pq::Connection& connection, const std::string& conninfo, const std::string& sql) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (true) {
        if (!connection.alive()) connection = pq::Connection(conninfo);
        const pq::Result result = connection.run(sql);
        if (result.ok()) return;
        if (!options.losses || !is_lost(connection, result) || std::chrono::steady_clock::now() > give_up)
            return note_error(admin_errors, sql + ": " + result.message());
        connection = pq::Connection();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

/// Makes things happen as the work goes on.
void direct() {
    Random random(options.seed);
    pq::Connection connection;
    std::vector<Event> events;
    auto admin = [&](const std::string& sql) {
        return [&connection, sql] { run_as_admin(connection, options.conninfo + " application_name=cap_admin", sql); };
    };
    auto backend = [&] { return pids[random() % static_cast<unsigned>(options.clients)].load(); };
    for (const auto& [at, sql] : options.sql_at) events.push_back({at, 0, admin(sql)});
    for (const auto& [every, sql] : options.sql_every) events.push_back({every, every, admin(sql)});
    for (const auto& [at, command] : options.sh_at)
        events.push_back({at, 0, [command = command] {
                              if (std::system(command.c_str()) != 0) note_error(admin_errors, command);
                          }});
    if (options.kill_every)
        events.push_back({options.kill_every, options.kill_every, [&] {
                              if (const int pid = backend(); pid > 0 && kill(pid, SIGKILL) == 0) ++kills;
                              // a server takes a while to come back; so do the backends to kill
                          }});
    if (options.terminate_every)
        events.push_back({options.terminate_every, options.terminate_every, [&] {
                              admin("SELECT pg_terminate_backend(" + std::to_string(backend()) + ")")();
                              ++kills;
                          }});
    const auto find_next = [&] {
        long long next = INT64_MAX;
        for (const Event& event : events)
            if (!event.every) next = std::min(next, event.at);
        next_event = next;
    };
    find_next();
    while (!over) {
        const long long transactions = progress, newcomers = next_user;
        for (Event& event : events) {
            if (event.at > (event.every ? transactions : newcomers)) continue;
            event.happen();
            event.at = event.every ? transactions + event.every : INT64_MAX;
        }
        find_next();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (next_event != INT64_MAX)
        note_error(admin_errors, "the action for newcomer " + std::to_string(next_event) + " was not done");
}

/// Repeats statements on a connection of their own as the work goes on; the last round comes to its end.
void beside(const std::string& database, const std::string& statements) {
    const std::string conninfo =
        options.conninfo + " application_name=cap_admin" + (database.empty() ? "" : " dbname=" + database);
    pq::Connection connection;
    for (long long next = options.beside_every; !over;) {
        if (progress < next) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            continue;
        }
        for (std::size_t from = 0; from < statements.size();) {
            const std::size_t end = std::min(statements.find('\n', from), statements.size());
            run_as_admin(connection, conninfo, statements.substr(from, end - from));
            ++beside_done;
            from = end + 1;
        }
        next = progress + options.beside_every;
    }
}

/// Writes visits, a line of user, day since 1970 and client each.
void write_visits(const std::string& file, const std::vector<Visit>& visits) {
    std::FILE* const out = std::fopen(file.c_str(), "w");
    if (!out) throw std::runtime_error("cannot write " + file);
    for (const Visit& visit : visits)
        std::fprintf(out, "%s\t%lld\t%d\n", visit.user.c_str(), visit.at / kDay, visit.platform);
    std::fclose(out);
}

/// The table against what the clients know: rows that nobody admitted, and admissions that have no row.
void compare(long long* unexplained, long long* missing) {
    pq::Connection connection(options.conninfo);
    for (int tries = 0; !connection.alive() && tries < 1200; ++tries) {  // the last kill may have been a moment ago
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        connection = pq::Connection(options.conninfo);
    }
    // The administrator may have dropped it last.
    if (options.extension_goes && connection.must("SELECT to_regclass('mau.monthly_active_users')").is_null(0, 0))
        return;
    const pq::Result rows = connection.must("SELECT user_id FROM mau.monthly_active_users WHERE user_id LIKE '" +
                                            options.prefix + "%'");
    std::set<std::string> table;
    for (int i = 0; i < rows.rows(); ++i) table.insert(rows.text(i, 0));
    for (const std::string& user : table)
        if (!certain.count(user) && !possible.count(user)) ++*unexplained;
    if (options.rows_go) return;
    for (const std::string& user : certain)
        if (user.compare(0, options.prefix.size(), options.prefix) == 0 && !table.count(user)) ++*missing;
}

int usage(const char* why) {
    std::fprintf(stderr, "cap_client: %s\n", why);
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        auto value = [&]() -> std::string {
            if (i + 1 >= argc) std::exit(usage("an option lacks its value"));
            return argv[++i];
        };
        auto number = [&] { return std::stoll(value()); };
        if (name == "--conninfo") options.conninfo = value();
        else if (name == "--clients") options.clients = static_cast<int>(number());
        else if (name == "--users") options.users = static_cast<int>(number());
        else if (name == "--max") options.max = value();
        else if (name == "--prefix") options.prefix = value();
        else if (name == "--also") options.also.push_back(value());
        else if (name == "--isolation") options.isolation = value();
        else if (name == "--shape") options.shape = value();
        else if (name == "--rollback") options.rollback = static_cast<int>(number());
        else if (name == "--again") options.again = static_cast<int>(number());
        else if (name == "--seed") options.seed = static_cast<unsigned long long>(number());
        else if (name == "--lock-timeout") options.lock_timeout = value();
        else if (name == "--hold") options.hold = true;
        else if (name == "--losses") options.losses = true;
        else if (name == "--rows-go") options.rows_go = true;
        else if (name == "--extension-goes") options.extension_goes = true;
        else if (name == "--homeserver") options.homeserver = true;
        else if (name == "--days") options.days = static_cast<int>(number());
        else if (name == "--visits-to") options.visits_to = value();
        else if (name == "--beside-every") options.beside_every = number();
        else if (name == "--beside") { const std::string database = value(); options.beside.emplace_back(database, value()); }
        else if (name == "--kill-every") options.kill_every = number();
        else if (name == "--terminate-every") options.terminate_every = number();
        else if (name == "--sql-at") { const long long at = number(); options.sql_at.emplace_back(at, value()); }
        else if (name == "--sql-every") { const long long n = number(); options.sql_every.emplace_back(n, value()); }
        else if (name == "--sh-at") { const long long at = number(); options.sh_at.emplace_back(at, value()); }
        else return usage(("what is " + name + "?").c_str());
    }

    pq::Connection holder;
    if (options.hold) {
        holder = pq::Connection(options.conninfo + " application_name=cap_holder");
        holder.must("BEGIN ISOLATION LEVEL REPEATABLE READ");
        holder.must("SELECT mau.record_activity('" + options.prefix + "_holder')");
        holder.must("SELECT mau.record_activity('" + options.prefix + "0')");
    }
    std::thread watcher(watch, options.hold ? holder.pid() : 0);
    std::thread director(direct);
    std::vector<std::thread> workers, admins;
    for (const auto& [database, statements] : options.beside) admins.emplace_back(beside, database, statements);
    for (int i = 0; i < options.clients; ++i) workers.emplace_back([i] { Client(i).work(); });
    for (std::thread& worker : workers) worker.join();
    over = true;
    director.join();
    watcher.join();
    for (std::thread& admin : admins) admin.join();

    if (options.hold) {
        holder.must("ROLLBACK");
        Client(0).fill(8);  // the seats that the holder gave back
    }
    long long unexplained = 0, missing = 0;
    compare(&unexplained, &missing);
    if (!options.visits_to.empty()) {
        write_visits(options.visits_to, acknowledged);
        write_visits(options.visits_to + ".possible", possible_visits);
    }
    std::printf("transactions %lld\nerrors %lld\nadmin_errors %lld\ndisconnects %lld\nkills %lld\nsamples %lld\nmost %lld\n"
                "waits %lld\nunexplained %lld\nmissing %lld\nadmitted %zu\nvisits %zu\nwarnings %lld\ngone %lld\nbeside %lld\nover %lld\n"
                "first_error %s\n",
                progress.load(), errors.load(), admin_errors.load(), disconnects.load(), kills.load(), samples.load(),
                most.load(), waits.load(), unexplained, missing, certain.size(), acknowledged.size(),
                warnings.load(), gone.load(), beside_done.load(), samples_over.load(),
                first_error.substr(0, first_error.find('\n')).c_str());
    return 0;
}
