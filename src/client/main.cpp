// mau: the figures of the extension at the command line.
#include <exception>

#include <fmt/format.h>

#include "client/commands.hpp"
#include "client/output.hpp"

namespace mau::client {
namespace {

void add_options(CLI::App& app, Options& options) {
    app.set_help_flag("-?,--help", "Show this help, and exit");
    app.set_version_flag("-V,--version", "mau " MAU_VERSION, "Show the version, and exit");
    app.add_option("-d,--dbname", options.dbname,
                   "The database: a name, key=value pairs or a postgresql:// URI. Without it, PGSERVICE, "
                   "PGDATABASE and so on count, as for psql")
        ->option_text("DBNAME");
    app.add_option("-h,--host", options.host, "The server's host or the folder of its socket")
        ->option_text("HOST");
    app.add_option("-p,--port", options.port, "The server's port")->option_text("PORT");
    app.add_option("-U,--username", options.user, "The role to connect as")->option_text("ROLE");
    app.add_option("--timeout", options.timeout,
                   "How long to wait for a connection, and for each answer; 0 = without end")
        ->option_text("SECONDS")
        ->check(CLI::Range(0.0, 86400.0));
    app.fallthrough();
    app.require_subcommand(1);
    app.get_formatter()->column_width(32);
}

int run(int argc, char** argv) {
    Context context;
    CLI::App app("Who is active on a Matrix or XMPP homeserver: the figures of the PostgreSQL extension mau.",
                 "mau");
    add_options(app, context.options);
    add_status(app, context);
    add_import(app, context);
    add_report(app, context);
    add_serve(app, context);
    add_bill(app, context);
    add_watch(app, context);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        const bool is_answer = e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
        if (is_answer) return app.exit(e);
        const bool is_status = app.got_subcommand("status");
        report(Problem(one_line(e.what()), "mau --help lists the commands, mau COMMAND --help its options"));
        return is_status ? kUnknown : kBadInput;
    } catch (const Problem& problem) {
        report(problem);
        return context.exit == kUnknown ? kUnknown : problem.exit();
    }
    return context.exit;
}

}  // namespace
}  // namespace mau::client

int main(int argc, char** argv) {
    try {
        return mau::client::run(argc, argv);
    } catch (const std::exception& e) {
        mau::client::report(mau::client::Problem(e.what(), ""));
        return mau::client::kFailed;
    }
}
