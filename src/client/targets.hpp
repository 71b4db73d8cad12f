// Which databases a command is about.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/database.hpp"

namespace mau::client {

/// The options that name databases and are common to all commands.
struct Options {
    std::string dbname;  ///< A name, a conninfo string or a URI, as for psql.
    std::string host;
    std::string port;
    std::string user;
    std::string targets_file;
    bool all = false;
    std::optional<double> timeout;  ///< In seconds; 0 = none. Each command has its own default.

    Seconds timeout_or(double seconds) const { return Seconds(timeout.value_or(seconds)); }
};

/// The one database of the options. Raises Problem where they name several.
Target one_target(const Options& options);

/// Each database of the options: that of -d, with --all every database of its server to which the user may
/// connect (with the extension or without it), or those of --targets. A part that cannot be listed is in
/// `problems`, by its name. Raises Problem where the options or the file are wrong.
std::vector<Target> all_targets(const Options& options, Seconds timeout,
                                std::vector<std::pair<std::string, Problem>>& problems);

/// The same, where no two have the same name. Of found databases with equal names, such as `postgres` on two
/// servers, those without the extension are left out. Raises Problem where equal names are left.
std::vector<Target> distinct_targets(const Options& options, Seconds timeout,
                                     std::vector<std::pair<std::string, Problem>>& problems);

/// A conninfo string for `base` (a name, a conninfo string or a URI) in which each (keyword, value) with a
/// value replaces that of the base. Raises Problem.
std::string conninfo(const std::string& base,
                     const std::vector<std::pair<std::string, std::string>>& replacements);

/// Runs `work` for each index below `count` in up to `threads` threads.
void in_parallel(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& work);

}  // namespace mau::client
