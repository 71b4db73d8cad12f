// The commands of the program. Each adds itself to the command line and, when it is called, sets the exit
// status.
#pragma once

#include <CLI/CLI.hpp>

#include "client/targets.hpp"

namespace mau::client {

/// The input and the result of a command: `options` are read when it runs; `exit` is the exit status of the
/// program.
struct Context {
    Options options;
    int exit = kDone;
};

void add_status(CLI::App& app, Context& context);
void add_import(CLI::App& app, Context& context);
void add_report(CLI::App& app, Context& context);
void add_serve(CLI::App& app, Context& context);
void add_bill(CLI::App& app, Context& context);
void add_watch(CLI::App& app, Context& context);

}  // namespace mau::client
