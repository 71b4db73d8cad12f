// One question to each of several databases.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/targets.hpp"

namespace mau::client {

/// The answer of one database, or the reason why there is none.
struct Answer {
    std::string database;
    std::optional<Table> table;
    std::optional<Problem> problem;
};

/// Runs a statement in each database of the options, some at the same time. A database that cannot be asked
/// is an answer with a problem. Raises Problem where the options are wrong, or no database has the extension.
std::vector<Answer> ask_each(const Options& options, Seconds timeout, const std::string& sql,
                             const std::vector<Cell>& values = {});

}  // namespace mau::client
