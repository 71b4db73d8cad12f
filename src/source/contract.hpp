// What a homeserver's database must answer. Adding a homeserver is writing one function that makes a Contract.
//
// All queries are text that is bound late: nothing of ours depends on a homeserver's tables, and its migrations
// never trip over us. They run with the rights of the role that attached (law L10), read only, with search_path
// set to pg_catalog. Column types are cast in the query, so that a homeserver may change them.
//
//   query       parameters                       columns (in this order)
//   users       {where} = a restriction on the   user_id text, registered_at bigint (ms), user_type text,
//               rows of `users_table` as u       appservice_id text, is_guest boolean, is_deactivated boolean
//   threepids   {where}, as t                    user_id text, medium text, address text
//   holders     $1 medium[], $2 address[]        user_id text, medium text, address text
//   activity    $1 from, $2 to (ms, both         user_id text, last_seen bigint (ms), user_agent text;
//               inclusive), $3 at most rows      in order of last_seen, WITH TIES
//   newest      $1 at (ms)                       bigint (ms): the newest activity up to then, or NULL
//   last_seen   $1 at (ms)                       user_id text, last_seen bigint (ms): one row a user
//   malformed   $1 at (ms)                       relation text, reason text, key text, at most 1 000 rows
//   usage       $1 at (ms)                       jsonb: the server's own figures by its own definitions
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mau::source {

/// A table that must be there, with the columns that must be in it.
struct Requirement {
    std::string table;
    std::vector<std::string> columns;
};

struct Contract {
    std::vector<Requirement> needs;
    std::string users_table, users;
    std::string threepids_table, threepids, holders;
    std::string activity, newest, last_seen;
    std::string malformed;
    std::string usage;
};

/// Makes the contract of a homeserver whose tables are in `schema`, a quoted identifier.
using MakeContract = Contract (*)(const std::string& schema);

struct Kind {
    const char* name;
    MakeContract make;
};

/// The homeservers we know.
Contract synapse(const std::string& schema);

inline constexpr Kind kKinds[] = {
    {"synapse", synapse},
};

/// Puts `value` in the place of every `{name}` of a query's text.
std::string substitute(std::string text, std::string_view name, std::string_view value);

}  // namespace mau::source
