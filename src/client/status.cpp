// mau status: one screen for a database, or a row for each of several; also a monitoring plugin.
#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "client/commands.hpp"
#include "client/output.hpp"

namespace mau::client {
namespace {

struct StatusOptions {
    Format format = Format::kTable;
    double warning = 90;
    double critical = 100;
};

/// The figures of one database in one row. "A week ago" is the newest snapshot of the day before that
/// instant.
constexpr const char* kStatusQuery = R"sql(
SELECT s.health, s.reason, mau.active_users('1 day') AS dau, mau.active_users('7 days') AS wau,
       s.monthly_active_users AS mau, c."limit",
       CASE WHEN c."limit" > 0 THEN round(100.0 * s.monthly_active_users / c."limit", 1) END AS percent,
       b.dau AS dau_week_ago, b.wau AS wau_week_ago, b.mau AS mau_week_ago,
       s.source, s.finds_new_by, date_trunc('second', s.lag) AS lag, s.skipped_rows, s.reconcile_differences,
       s.worker, date_trunc('second', s.last_tick) AS last_tick, s.seats, s.seen_cache
FROM mau.status s
     LEFT JOIN (SELECT max_mau_value AS "limit" FROM mau.settings WHERE limit_usage_by_mau) c ON true
     LEFT JOIN (SELECT p.dau, p.wau, p.mau FROM mau.snapshots p
                WHERE p.at <= now() - interval '7 days' AND p.at > now() - interval '8 days'
                ORDER BY p.at DESC LIMIT 1) b ON true)sql";

constexpr const char* kTasksQuery = R"sql(
SELECT task, to_char(last_finished, 'YYYY-MM-DD HH24:MI:SS') AS "last run (UTC)",
       to_char(last_duration, 'HH24:MI:SS.MS') AS took, last_rows AS rows, failures_in_a_row AS "failures in a row",
       to_char(next_run, 'YYYY-MM-DD HH24:MI:SS') AS "next run (UTC)"
FROM mau.tasks ORDER BY task)sql";

struct State {
    Cell database;
    std::optional<Rows> rows;
    std::optional<Problem> problem;
};

int exit_of(const State& state, const StatusOptions& options) {
    if (state.problem) return kUnknown;
    const std::string health = state.rows->text(0, "health");
    const double percent = std::atof(state.rows->text(0, "percent").c_str());
    const bool is_limited = state.rows->cell(0, "limit").has_value();
    // A limit of 0 lets nobody in.
    const bool is_full = is_limited && (state.rows->integer(0, "limit") == 0 || percent >= options.critical);
    if (health == "failing" || is_full) return 2;
    if (health == "late" || health == "off" || health == "waiting" || health == "paused") return 1;
    return is_limited && percent >= options.warning ? 1 : 0;
}

/// The worst of two: critical, then unknown, then warning.
int worse(int a, int b) {
    constexpr int kRank[] = {0, 1, 3, 2};
    return kRank[a] > kRank[b] ? a : b;
}

std::string change(const Cell& now, const Cell& before) {
    if (!now || !before) return "";
    return fmt::format("{:+}", std::atoll(now->c_str()) - std::atoll(before->c_str()));
}

std::string or_dash(const Cell& cell) {
    return cell ? *cell : "-";
}

std::string figures(const Rows& rows) {
    Table table{{{""}, {"now", true}, {"a week ago", true}, {"change", true}}, {}};
    const std::pair<const char*, const char*> kFigures[] = {
        {"daily active users", "dau"}, {"weekly active users", "wau"}, {"monthly active users", "mau"}};
    for (const auto& [title, column] : kFigures) {
        const Cell now = rows.cell(0, column);
        const Cell before = rows.cell(0, (std::string(column) + "_week_ago").c_str());
        table.rows.push_back({title, or_dash(now), or_dash(before), change(now, before)});
    }
    return format(table, Format::kTable);
}

std::string limit(const Rows& rows) {
    if (const Cell value = rows.cell(0, "limit")) {
        const long long free = std::max(0LL, rows.integer(0, "limit") - rows.integer(0, "mau"));
        const Cell percent = rows.cell(0, "percent");
        return fmt::format("{} of {} users{}, {} free", rows.text(0, "mau"), *value,
                           percent ? " (" + *percent + " %)" : "", free);
    }
    return fmt::format("{} users, no limit", rows.text(0, "mau"));
}

std::string forecast(Connection& connection) {
    const Rows rows = connection.run("SELECT * FROM mau.forecast()");
    if (rows.size() == 0) return "-";
    const Cell day = rows.cell(0, "reaches");
    const std::string assumption = rows.text(0, "assumption");
    if (!day) return assumption.empty() ? "-" : assumption;
    return fmt::format("{} users on {}, in {} days ({})", rows.text(0, "target_mau"), *day,
                       rows.text(0, "days_left"), assumption);
}

std::string screen(Connection& connection, const Rows& rows) {
    std::string text = fmt::format("{} at {}: {}\n  {}\n\n", connection.name(), connection.server(),
                                   rows.text(0, "health"), rows.text(0, "reason"));
    text += figures(rows) + '\n';
    const auto line = [&](const char* title, const std::string& value) {
        text += fmt::format("{:<12}{}\n", title, value);
    };
    line("limit", limit(rows));
    line("forecast", forecast(connection));
    std::string source = or_dash(rows.cell(0, "source"));
    if (const Cell lag = rows.cell(0, "lag")) {
        source +=
            fmt::format(", read {} ago, new activity found {}", *lag, or_dash(rows.cell(0, "finds_new_by")));
    }
    line("source", source);
    if (rows.integer(0, "skipped_rows") > 0)
        line("skipped", rows.text(0, "skipped_rows") + " invalid rows, see mau.source_skipped");
    line("seats", rows.text(0, "seats"));
    line("cache", rows.text(0, "seen_cache"));
    line("worker",
         fmt::format("{}, last tick {}", rows.text(0, "worker"), or_dash(rows.cell(0, "last_tick"))));
    return text + '\n' + format(connection.run(kTasksQuery).table(), Format::kTable);
}

/// A row for each database; a column of all but the first has NULL where the database could not be asked.
Table table_of(const std::vector<State>& states) {
    Table table;
    for (const State& state : states) {
        if (state.rows && table.columns.empty()) table = state.rows->table();
    }
    table.rows.clear();
    if (table.columns.empty()) table.columns = {{"health"}, {"reason"}};
    for (const State& state : states) {
        auto& row = table.rows.emplace_back();
        if (state.rows) {
            row = state.rows->table().rows.at(0);
        } else {
            row.assign(table.columns.size(), std::nullopt);
            row[0] = "unknown";
            row[1] = state.problem->what();
        }
        row.insert(row.begin(), state.database);
    }
    table.columns.insert(table.columns.begin(), {"database"});
    return table;
}

/// The columns for a terminal.
Table narrow(const Table& table) {
    const std::vector<std::string> kShown = {"database", "health",  "dau", "wau",   "mau",
                                             "limit",    "percent", "lag", "reason"};
    Table result;
    std::vector<std::size_t> columns;
    for (const std::string& name : kShown) {
        for (std::size_t c = 0; c < table.columns.size(); ++c) {
            if (table.columns[c].name != name) continue;
            columns.push_back(c);
            result.columns.push_back(table.columns[c]);
        }
    }
    for (const auto& row : table.rows) {
        auto& shown = result.rows.emplace_back();
        for (const std::size_t c : columns) shown.push_back(row[c]);
    }
    return result;
}

void run_one(Context& context, const StatusOptions& options) {
    Progress progress("asking the database");
    Connection connection = open_database(one_target(context.options), context.options.timeout_or(10));
    std::vector<State> states(1);
    states[0].database = connection.name();
    states[0].rows = connection.run(kStatusQuery);
    context.exit = exit_of(states[0], options);
    print(options.format == Format::kTable ? screen(connection, *states[0].rows)
                                           : format(table_of(states), options.format));
}

void run_all(Context& context, const StatusOptions& options) {
    std::vector<State> states;
    {
        Progress progress("asking the databases");
        const Seconds timeout = context.options.timeout_or(10);
        std::vector<std::pair<std::string, Problem>> problems;
        const std::vector<Target> targets = all_targets(context.options, timeout, problems);
        states.resize(targets.size());
        in_parallel(targets.size(), 8, [&](std::size_t i) {
            states[i].database = targets[i].name;
            try {
                states[i].rows = open_database(targets[i], timeout).run(kStatusQuery);
            } catch (const Problem& problem) {
                states[i].problem = problem;
            }
        });
        for (auto& [name, problem] : problems) states.push_back({name, std::nullopt, problem});
    }
    if (states.empty()) {
        throw Problem("no database of this server has the extension mau",
                      "in a homeserver's database: CREATE EXTENSION mau");
    }
    context.exit = 0;
    for (const State& state : states) {
        context.exit = worse(context.exit, exit_of(state, options));
        if (state.problem) report(*state.problem, *state.database);
    }
    const Table table = table_of(states);
    print(format(options.format == Format::kTable ? narrow(table) : table, options.format));
}

}  // namespace

void add_status(CLI::App& app, Context& context) {
    auto options = std::make_shared<StatusOptions>();
    CLI::App* const command = app.add_subcommand("status", "Show whether mau works, and the figures");
    command->add_flag("--all", context.options.all,
                      "A row for each database of the server that has the extension");
    command
        ->add_option("--targets", context.options.targets_file,
                     "A row for each database that a YAML file names")
        ->option_text("FILE");
    command->add_option("--format", options->format, "table, csv or json")
        ->transform(CLI::CheckedTransformer(format_names()))
        ->option_text("FORMAT");
    command
        ->add_option("--warning", options->warning,
                     "Exit with 1 when so much of the limit is taken (default 90)")
        ->option_text("PERCENT");
    command
        ->add_option("--critical", options->critical,
                     "Exit with 2 when so much of the limit is taken (default 100)")
        ->option_text("PERCENT");
    command->footer(
        "Exit status: 0 ok; 1 warning: late, off, waiting or paused, or nearly full; 2 critical: failing or "
        "full; 3 unknown: a database could not be asked.");
    command->callback([&context, options] {
        context.exit = kUnknown;  // of a problem
        if (context.options.all || !context.options.targets_file.empty()) {
            run_all(context, *options);
        } else {
            run_one(context, *options);
        }
    });
}

}  // namespace mau::client
