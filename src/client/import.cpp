// mau import: takes the settings over from a homeserver's configuration.
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "client/commands.hpp"
#include "client/config_files.hpp"
#include "client/output.hpp"

namespace mau::client {
namespace {

enum class Kind { kDetect, kSynapse, kDendrite, kProsody };

struct ImportOptions {
    std::vector<std::string> paths;
    Kind kind = Kind::kDetect;
    AppserviceOptions appservices;
    bool yes = false;
    bool dry_run = false;
    Format format = Format::kTable;
};

/// A transaction that ends with a rollback, unless it is committed before.
class Transaction {
  public:
    explicit Transaction(Connection& connection) : connection_(connection) {
        connection.run_all("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off");
    }
    ~Transaction() {
        if (is_over_) return;
        try {
            connection_.run("ROLLBACK");
        } catch (const Problem&) {
            // The connection is lost, and with it the transaction.
        }
    }
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;

    void commit() {
        is_over_ = true;
        connection_.run("COMMIT");
    }

  private:
    Connection& connection_;
    bool is_over_ = false;
};

/// The kind of a configuration: Lua is Prosody's, and `global` is a key of Dendrite's only.
Kind kind_of(const std::vector<std::string>& paths) {
    const std::filesystem::path first = paths.front();
    if (first.extension() == ".lua") return Kind::kProsody;
    std::error_code ignored;
    if (std::filesystem::is_directory(first, ignored)) return Kind::kSynapse;
    return read_yaml(first.string())->find("global") ? Kind::kDendrite : Kind::kSynapse;
}

void check_paths(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
        std::error_code error;
        if (!std::filesystem::exists(path, error)) {
            throw Problem(fmt::format("{}: {}", path, error ? error.message() : "no such file or folder"),
                          "name homeserver.yaml and, after it, the folder conf.d", kBadInput);
        }
    }
}

/// Reads the files. Reports each problem but the last, and raises the last.
Wanted read_files(const ImportOptions& options) {
    check_paths(options.paths);
    const Kind kind = options.kind == Kind::kDetect ? kind_of(options.paths) : options.kind;
    Wanted wanted;
    const std::string ending = kind == Kind::kProsody ? ".cfg.lua" : ".yaml";
    const std::vector<std::string> files = expand_folders(options.paths, ending, wanted.warnings);
    if (files.empty())
        throw Problem(fmt::format("{}: no files that end in {}", options.paths.front(), ending),
                      "--kind says whose configuration it is", kBadInput);
    if (kind == Kind::kSynapse) read_synapse(files, options.appservices, wanted);
    if (kind == Kind::kDendrite) read_dendrite(files, options.appservices, wanted);
    if (kind == Kind::kProsody) read_prosody(files, wanted);
    while (wanted.problems.size() > 1) {
        report(Problem(wanted.problems.front().what(), ""));
        wanted.problems.erase(wanted.problems.begin());
    }
    if (!wanted.problems.empty()) throw wanted.problems.front();
    if (wanted.is_empty()) {
        throw Problem(fmt::format("{}: no setting of mau is in it", fmt::join(options.paths, ", ")),
                      "is it the homeserver's configuration? --kind says whose it is", kBadInput);
    }
    return wanted;
}

void show(const Table& changes, const ImportOptions& options) {
    if (options.format != Format::kTable) {
        print(format(changes, options.format));
        return;
    }
    Table shown = changes;
    for (auto& row : shown.rows) {
        for (Cell& cell : row) cell = cell.value_or("-");
    }
    print(shown.rows.empty() ? "nothing to change\n" : format(shown, Format::kTable));
}

/// Asks whether to apply. Raises Problem where the answer is not yes.
void confirm(const ImportOptions& options, const Connection& connection) {
    if (options.yes) return;
    if (!isatty(STDIN_FILENO)) {
        throw Problem("nothing was applied: there is no terminal to ask on",
                      "--yes applies without a question, --dry-run only shows", kBadInput);
    }
    fmt::print(stderr, "Apply this to database {} at {}? [y/N] ", connection.name(), connection.server());
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "Y" && answer != "yes") throw Problem("nothing was applied", "");
}

/// Raises Problem where the database takes no writes.
void check_writable(Connection& connection) {
    const Rows rows = connection.run(
        "SELECT pg_is_in_recovery() AS is_standby, current_setting('transaction_read_only') = 'on' AS "
        "is_read_only");
    if (rows.is_true(0, "is_standby")) {
        throw Problem(fmt::format("nothing was applied: {} is a standby server", connection.server()),
                      "connect to the primary server");
    }
    if (rows.is_true(0, "is_read_only")) {
        throw Problem(
            fmt::format("nothing was applied: database {} is read-only by default_transaction_read_only",
                        connection.name()),
            "if it may be changed now, run it again with PGOPTIONS='-c default_transaction_read_only=off'");
    }
}

/// Writes in one transaction, if the settings are still those that were shown.
void apply(Connection& connection, const Settings& shown, const Settings& then) {
    Transaction transaction(connection);
    // A homeserver's calls only take ACCESS SHARE on these, which does not wait for this lock.
    connection.run(
        "LOCK TABLE mau.settings, mau.reserved_threepids, mau.appservices IN SHARE ROW EXCLUSIVE MODE");
    if (!(load_settings(connection) == shown)) {
        throw Problem("nothing was applied: somebody else changed the settings meanwhile",
                      "run it again and look at what it shows");
    }
    write_settings(connection, shown, then);
    if (!(load_settings(connection) == then)) {
        throw Problem(
            "nothing was applied: the database did not keep what was written",
            "look for triggers and rules on mau.settings, mau.reserved_threepids and mau.appservices");
    }
    transaction.commit();
}

void run(Context& context, const ImportOptions& options) {
    Wanted wanted = read_files(options);
    Connection connection = open_database(one_target(context.options), context.options.timeout_or(30),
                                          options.dry_run ? Access::kRead : Access::kWrite);
    check_regexes(connection, wanted);
    Settings now;
    {
        const Transaction reading(connection);
        now = load_settings(connection);
    }
    const Settings then = merge(now, wanted);
    for (const std::string& warning : wanted.warnings) report(Problem("warning: " + warning, ""));
    show(difference(now, then), options);
    if (options.dry_run || now == then) return;
    check_writable(connection);
    confirm(options, connection);
    apply(connection, now, then);
    if (options.format == Format::kTable) print("applied\n");
}

}  // namespace

void add_import(CLI::App& app, Context& context) {
    static const std::map<std::string, Kind> kKinds = {
        {"synapse", Kind::kSynapse}, {"dendrite", Kind::kDendrite}, {"prosody", Kind::kProsody}};
    auto options = std::make_shared<ImportOptions>();
    CLI::App* const command =
        app.add_subcommand("import", "Take the settings over from a homeserver's configuration");
    command
        ->add_option("files", options->paths,
                     "homeserver.yaml and so on, in the homeserver's order; of a folder, all *.yaml")
        ->required()
        ->option_text("FILE...");
    command
        ->add_option("--kind", options->kind, "synapse, dendrite or prosody; without it, by the first file")
        ->transform(CLI::CheckedTransformer(kKinds))
        ->option_text("KIND");
    command
        ->add_option("--appservices", options->appservices.folder,
                     "Where the files of app_service_config_files are on this machine, such as the volume "
                     "that a container sees as /data")
        ->option_text("FOLDER")
        ->check(CLI::ExistingDirectory);
    command->add_flag("--skip-appservices", options->appservices.skip,
                      "Do not read app_service_config_files");
    command->add_flag("-y,--yes", options->yes, "Apply without a question");
    command->add_flag("-n,--dry-run", options->dry_run, "Only show what would change");
    command->add_option("--format", options->format, "table, csv or json")
        ->transform(CLI::CheckedTransformer(format_names()))
        ->option_text("FORMAT");
    command->footer(
        "Keys that are not in the files keep mau's value.\n"
        "Exit status: 0 applied, shown or nothing to change; 1 not applied; 2 the files or arguments are "
        "wrong.");
    command->callback([&context, options] { run(context, *options); });
}

}  // namespace mau::client
