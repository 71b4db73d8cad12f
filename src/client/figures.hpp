// The figures of one database that a page shows, as JSON.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "client/database.hpp"

namespace mau::client {

/// Reads all figures of a page in one snapshot of the database. `at` is an instant as PostgreSQL reads it;
/// empty = now. Each question is an array of rows, or an object with `problem` and `hint` where it failed. No
/// user id is in it. Raises Problem where nothing can be read at all.
nlohmann::ordered_json read_figures(Connection& connection, const std::string& at);

/// Replaces what may be a user id (a word with an at sign) in a message.
std::string hide_user_ids(const std::string& message);

}  // namespace mau::client
