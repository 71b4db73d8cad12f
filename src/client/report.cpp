// mau report: the figures of a database as one HTML file.
#include <fmt/format.h>

#include "client/commands.hpp"
#include "client/figures.hpp"
#include "client/output.hpp"
#include "client/page.hpp"

namespace mau::client {
namespace {

struct ReportOptions {
    std::string output;
    std::string at;
    bool as_json = false;
};

void run(Context& context, const ReportOptions& options) {
    nlohmann::ordered_json figures;
    {
        Progress progress("reading the figures");
        Connection connection = open_database(one_target(context.options), context.options.timeout_or(60));
        figures = read_figures(connection, options.at);
    }
    write_file(options.output,
               options.as_json ? json_text(figures) + '\n' : make_page(figures, /*is_live=*/false).html);
    // The page says it, too.
    std::size_t asked = 0, failed = 0;
    for (const auto& [name, answer] : figures.items()) {
        asked += answer.is_structured();
        if (!answer.contains("problem")) continue;
        ++failed;
        report(Problem(fmt::format("{}: {}", name, answer["problem"].get<std::string>()),
                       answer["hint"].get<std::string>()));
    }
    if (failed == asked) context.exit = kFailed;
}

}  // namespace

void add_report(CLI::App& app, Context& context) {
    auto options = std::make_shared<ReportOptions>();
    CLI::App* const command =
        app.add_subcommand("report", "Write the figures and their charts into one HTML file");
    command->add_option("-o,--output", options->output, "The file; - is standard output")
        ->required()
        ->option_text("FILE");
    command
        ->add_option("--at", options->at, "The instant of the figures, such as '2026-10-31 12:00+00' (now)")
        ->option_text("TIME");
    command->add_flag("--json", options->as_json, "Write the figures alone, as JSON");
    command->footer(
        "A figure that cannot be had, such as one that the cohort does not know for a past instant, is "
        "reported "
        "here and in its place on the page.\n"
        "Exit status: 0 done; 1 no figures, or the file could not be written; 2 wrong arguments.");
    command->callback([&context, options] { run(context, *options); });
}

}  // namespace mau::client
