// mau watch: prints, or runs a command for, each change of how full a server is.
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "client/commands.hpp"
#include "client/output.hpp"

namespace mau::client {
namespace {

struct WatchOptions {
    std::string command;
    int count = 0;
    bool now = false;
};

constexpr Seconds kSilence{60};  // after which the server is asked whether it is still there

/// The state that was told last, as the payload of a change from `before`.
nlohmann::ordered_json told_state(Connection& connection, const std::string& before) {
    const Rows rows = connection.run(
        "SELECT state, users, max, to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS at FROM "
        "mau.limit_state");
    nlohmann::ordered_json payload = {{"state", "free"}, {"before", before}};
    if (rows.size() > 0) {
        payload["state"] = rows.text(0, "state");
        payload["users"] = rows.integer(0, "users");
        payload["limit"] = rows.integer(0, "max");
        payload["at"] = rows.text(0, "at");
    }
    payload["database"] = connection.name();
    return payload;
}

/// Sets MAU_STATE and so on for the command; a key that the payload lacks is unset.
void export_payload(const nlohmann::json& payload) {
    for (const char* key : {"state", "before", "users", "limit", "at", "database", "server_name"}) {
        std::string name = fmt::format("MAU_{}", key);
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return std::toupper(c); });
        const auto found = payload.find(key);
        if (found == payload.end() || found->is_null()) {
            unsetenv(name.c_str());
        } else {
            setenv(name.c_str(), (found->is_string() ? found->get<std::string>() : found->dump()).c_str(), 1);
        }
    }
}

/// Runs the command with the payload on its standard input. One that fails is reported; the watch goes on.
void run_command(const std::string& command, const std::string& payload, const nlohmann::json& object) {
    export_payload(object);
    std::FILE* const pipe = popen(command.c_str(), "w");
    if (!pipe) throw Problem("cannot start the command", "");
    // It may end without reading its input.
    const auto before = std::signal(SIGPIPE, SIG_IGN);
    const std::string line = payload + '\n';
    std::fwrite(line.data(), 1, line.size(), pipe);
    const int status = pclose(pipe);
    std::signal(SIGPIPE, before);
    if (status != 0) {
        report(Problem(fmt::format("the command ended with {}: {}",
                                   WIFEXITED(status) ? WEXITSTATUS(status) : status, command),
                       ""));
    }
}

class Watch {
  public:
    Watch(const Context& context, const WatchOptions& options) : context_(context), options_(options) {}

    void run() {
        const Target target = one_target(context_.options);
        auto pause = std::chrono::seconds(1);
        for (;;) {
            try {
                Connection connection = open_database(target, context_.options.timeout_or(30));
                pause = std::chrono::seconds(1);
                if (follow(connection)) return;
            } catch (const Problem& problem) {
                if (!state_) throw;  // it never worked
                report(problem);
                std::this_thread::sleep_for(pause);
                pause = std::min(pause * 2, std::chrono::seconds(60));
            }
        }
    }

  private:
    /// Handles changes until there were as many as wanted. Raises Problem where the connection is lost.
    bool follow(Connection& connection) {
        connection.run("LISTEN mau_limit");
        // What was told before, or while there was no connection.
        const auto told = told_state(connection, state_.value_or("free"));
        const bool is_news = state_ ? told["state"] != *state_ : options_.now;
        if (!state_) state_ = told["state"].get<std::string>();
        if (is_news && handle(told.dump())) return true;
        for (;;) {
            if (const auto payload = connection.wait_for_notification(kSilence)) {
                if (handle(*payload)) return true;
            } else {
                connection.run("SELECT 1");
            }
        }
    }

    /// Returns whether it was the last change that is wanted.
    bool handle(const std::string& payload) {
        const auto object = nlohmann::json::parse(payload, nullptr, /*allow_exceptions=*/false);
        // Anybody may NOTIFY; what is no change of ours is nothing to run a command for.
        const auto state = object.is_object() ? object.value("state", nlohmann::json()) : nlohmann::json();
        if (state != "free" && state != "nearly_full" && state != "full") return false;
        state_ = state.get<std::string>();
        if (options_.command.empty()) {
            print(payload + '\n');
        } else {
            run_command(options_.command, payload, object);
        }
        return ++seen_ == options_.count;
    }

    const Context& context_;
    const WatchOptions& options_;
    std::optional<std::string> state_;  // none until the first connection
    int seen_ = 0;
};

}  // namespace

void add_watch(CLI::App& app, Context& context) {
    auto options = std::make_shared<WatchOptions>();
    CLI::App* const command = app.add_subcommand(
        "watch", "Wait for the server to become nearly full, full or free, and print it or run a command");
    command
        ->add_option("--exec", options->command,
                     "Run this by the shell for each change; it gets MAU_STATE, MAU_USERS, MAU_LIMIT and so "
                     "on, and the change as JSON on its input")
        ->option_text("COMMAND");
    command->add_option("--count", options->count, "End after so many changes; 0 = never")
        ->option_text("N")
        ->check(CLI::NonNegativeNumber);
    command->add_flag("--now", options->now, "Begin with the present state");
    command->callback([&context, options] { Watch(context, *options).run(); });
}

}  // namespace mau::client
