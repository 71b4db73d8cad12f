// mau bill: the bill of a month over all databases.
#include <fmt/format.h>

#include "client/commands.hpp"
#include "client/answers.hpp"
#include "client/output.hpp"

namespace mau::client {
namespace {

struct BillOptions {
    std::string month;
    std::string service;
    int more_than_days = 2;
    Format format = Format::kTable;
};

constexpr const char* kBillQuery = R"sql(
SELECT to_char(b.month, 'YYYY-MM') AS month, b.service_name AS service, b.users, b.users_over, b.highest_mau,
       round(b.mean_mau::numeric, 1) AS mean_mau, CASE WHEN b.partial THEN 'yes' ELSE 'no' END AS partial
FROM mau.billing_months($1::date, ($1::date + interval '1 month' - interval '1 day')::date, $2, $3) b
ORDER BY b.month, b.service_name)sql";

void run(Context& context, const BillOptions& options) {
    const std::string& month = options.month;
    const bool is_month = month.size() == 7 && month[4] == '-' &&
                          month.find_first_not_of("0123456789-") == std::string::npos &&
                          month.substr(5) >= "01" && month.substr(5) <= "12" && month >= "1970-01";
    if (!is_month) {
        throw Problem(fmt::format("{} is no month", month), "give a month as in 2026-10", kBadInput);
    }
    const Cell service = options.service.empty() ? Cell() : Cell(options.service);
    std::optional<Progress> progress("reading the bills");
    const std::vector<Answer> answers =
        ask_each(context.options, context.options.timeout_or(60), kBillQuery,
                 {month + "-01", service, std::to_string(options.more_than_days)});
    progress.reset();

    Table bills;
    for (const Answer& answer : answers) {
        if (answer.problem) {
            report(*answer.problem, answer.database);
            // A bill without one of its databases is not complete.
            context.exit = answer.problem->exit();
            continue;
        }
        if (bills.columns.empty()) bills.columns = answer.table->columns;
        for (const auto& row : answer.table->rows) {
            bills.rows.push_back(row);
            bills.rows.back().insert(bills.rows.back().begin(), answer.database);
        }
    }
    if (bills.columns.empty()) return;
    bills.columns.insert(bills.columns.begin(), {"database"});
    print(format(bills, options.format));
}

}  // namespace

void add_bill(CLI::App& app, Context& context) {
    auto options = std::make_shared<BillOptions>();
    CLI::App* const command =
        app.add_subcommand("bill", "Show the bill of a month, for each database and service");
    command->add_option("month", options->month, "The month (UTC), such as 2026-10")
        ->required()
        ->option_text("YYYY-MM");
    command->add_flag("--all", context.options.all, "Each database of the server that has the extension");
    command->add_option("--targets", context.options.targets_file, "Each database that a YAML file names")
        ->option_text("FILE");
    command->add_option("--service", options->service, "native or the id of an appservice; without it, each")
        ->option_text("NAME");
    command
        ->add_option("--more-than-days", options->more_than_days,
                     "users_over are active on more days than this (default 2)")
        ->option_text("DAYS")
        ->check(CLI::Range(0, 31));
    command->add_option("--format", options->format, "table, csv or json")
        ->transform(CLI::CheckedTransformer(format_names()))
        ->option_text("FORMAT");
    command->footer(
        "A month is partial if it is not over, or if the history begins in it.\n"
        "Exit status: 0 done; 1 a database is missing from the bill; 2 wrong arguments.");
    command->callback([&context, options] { run(context, *options); });
}

}  // namespace mau::client
