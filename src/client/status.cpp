// mau status: one screen for a database, or a row for each of several; also a monitoring plugin.
#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "client/commands.hpp"
#include "client/answers.hpp"
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
       CASE WHEN c."limit" > 0 THEN trunc(100.0 * s.monthly_active_users / c."limit", 1) END AS percent,
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

double number(const Cell& cell) {
    return cell ? std::atof(cell->c_str()) : 0;
}

int exit_of(const Answer& answer, const StatusOptions& options) {
    if (answer.problem) return kUnknown;
    const std::string health = answer.table->first("health").value_or("");
    const Cell& limit = answer.table->first("limit");
    const double percent =
        limit ? 100 * number(answer.table->first("mau")) / std::max(1.0, number(limit)) : 0;
    // A limit of 0 lets nobody in.
    const bool is_full = limit && (number(limit) == 0 || percent >= options.critical);
    if (health == "failing" || is_full) return 2;
    if (health == "late" || health == "off" || health == "waiting" || health == "paused") return 1;
    return limit && percent >= options.warning ? 1 : 0;
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

std::string figures(const Table& status) {
    Table table{{{""}, {"now", true}, {"a week ago", true}, {"change", true}}, {}};
    const std::pair<const char*, const char*> kFigures[] = {
        {"daily active users", "dau"}, {"weekly active users", "wau"}, {"monthly active users", "mau"}};
    for (const auto& [title, column] : kFigures) {
        const Cell& now = status.first(column);
        const Cell& before = status.first(std::string(column) + "_week_ago");
        table.rows.push_back({title, or_dash(now), or_dash(before), change(now, before)});
    }
    return format(table, Format::kTable);
}

std::string limit(const Table& status) {
    const std::string users = or_dash(status.first("mau"));
    const Cell& limit = status.first("limit");
    if (!limit) return users + " users, no limit";
    const Cell& percent = status.first("percent");
    const double free = std::max(0.0, number(limit) - number(users));
    return fmt::format("{} of {} users{}, {:.0f} free", users, *limit, percent ? " (" + *percent + " %)" : "",
                       free);
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

std::string screen(Connection& connection, const Table& status) {
    std::string text = fmt::format("{} at {}: {}\n  {}\n\n", connection.name(), connection.server(),
                                   or_dash(status.first("health")), or_dash(status.first("reason")));
    text += figures(status) + '\n';
    const auto line = [&](const char* title, const std::string& value) {
        text += fmt::format("{:<12}{}\n", title, value);
    };
    line("limit", limit(status));
    line("forecast", forecast(connection));
    std::string source = or_dash(status.first("source"));
    if (const Cell& lag = status.first("lag")) {
        source +=
            fmt::format(", read {} ago, new activity found {}", *lag, or_dash(status.first("finds_new_by")));
    }
    line("source", source);
    if (number(status.first("skipped_rows")) > 0) {
        line("skipped", *status.first("skipped_rows") + " invalid rows, see mau.source_skipped");
    }
    line("seats", or_dash(status.first("seats")));
    line("cache", or_dash(status.first("seen_cache")));
    line("worker", fmt::format("{}, last tick {}", or_dash(status.first("worker")),
                               or_dash(status.first("last_tick"))));
    return text + '\n' + format(connection.run(kTasksQuery).table(), Format::kTable);
}

/// A row for each database. Where a database could not be asked, only `health` and `reason` have a value.
Table table_of(const std::vector<Answer>& answers) {
    Table table;
    for (const Answer& answer : answers) {
        if (answer.table && table.columns.empty()) table.columns = answer.table->columns;
    }
    if (table.columns.empty()) table.columns = {{"health"}, {"reason"}};
    for (const Answer& answer : answers) {
        auto& row = table.rows.emplace_back(table.columns.size());
        if (answer.table) {
            row = answer.table->rows.at(0);
        } else {
            row[table.column("health")] = "unknown";
            row[table.column("reason")] = answer.problem->what();
        }
        row.insert(row.begin(), answer.database);
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
    const std::vector<Answer> answers = {
        {connection.name(), connection.run(kStatusQuery).table(), std::nullopt}};
    context.exit = exit_of(answers[0], options);
    print(options.format == Format::kTable ? screen(connection, *answers[0].table)
                                           : format(table_of(answers), options.format));
}

void run_all(Context& context, const StatusOptions& options) {
    std::optional<Progress> progress("asking the databases");
    const std::vector<Answer> answers =
        ask_each(context.options, context.options.timeout_or(10), kStatusQuery);
    progress.reset();
    context.exit = 0;
    for (const Answer& answer : answers) {
        context.exit = worse(context.exit, exit_of(answer, options));
        if (answer.problem) report(*answer.problem, answer.database);
    }
    const Table table = table_of(answers);
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
