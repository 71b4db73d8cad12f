// mau watch: prints, or runs a command for, each change of how full a server is.
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
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
};

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
void run_command(const std::string& command, const std::string& payload) {
    const auto object = nlohmann::json::parse(payload, nullptr, /*allow_exceptions=*/false);
    export_payload(object.is_object() ? object : nlohmann::json::object());
    std::FILE* const pipe = popen(command.c_str(), "w");
    if (!pipe) throw Problem("cannot start the command", "");
    fmt::print(pipe, "{}\n", payload);
    const int status = pclose(pipe);
    if (status != 0) {
        report(Problem(fmt::format("the command ended with {}: {}",
                                   WIFEXITED(status) ? WEXITSTATUS(status) : status, command),
                       ""));
    }
}

void run(Context& context, const WatchOptions& options) {
    const Target target = one_target(context.options);
    const Seconds timeout = context.options.timeout_or(30);
    int seen = 0;
    auto pause = std::chrono::seconds(1);
    for (bool first = true;; first = false) {
        try {
            Connection connection = open_database(target, timeout, Access::kRead);
            connection.run("LISTEN mau_limit");
            pause = std::chrono::seconds(1);
            for (;;) {
                const auto payload = connection.wait_for_notification(Seconds(60));
                if (!payload) continue;
                if (options.command.empty()) {
                    print(*payload + '\n');
                } else {
                    run_command(options.command, *payload);
                }
                if (++seen == options.count) return;
            }
        } catch (const Problem& problem) {
            if (first) throw;
            report(problem);
            std::this_thread::sleep_for(pause);
            pause = std::min(pause * 2, std::chrono::seconds(60));
        }
    }
}

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
    command->callback([&context, options] { run(context, *options); });
}

}  // namespace mau::client
