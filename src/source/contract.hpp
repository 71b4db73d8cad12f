// The queries that a homeserver's database must answer. To add a homeserver, write a function that makes a
// Contract, and its test; doc/sources.md has the same table for administrators.
//
// Queries are text that is parsed when they run, so no object of mau depends on a homeserver's tables. They
// run read only, with the rights of rights.hpp and search_path "pg_catalog, pg_temp". Column types are cast
// in the query, so that a homeserver may change them. Leave a part empty that a homeserver does not have.
//
//   query       parameters                       columns (in this order)
//   users       {where} = a restriction on the   user_id text, registered_at bigint (ms), user_type text,
//               rows of `users_table`            appservice_id text, is_guest boolean,
//                                                is_deactivated boolean, is_locked boolean
//   bans        {where} = a restriction on the   as users: the accounts that have one of these bans
//               rows of `bans_table`
//   accounts    $1 user_id[]                     as users: these accounts
//   threepids   {where}                          user_id text, medium text, address text
//   holders     $1 medium[], $2 address[],       user_id text, medium text, address text: the owners of
//               $3 user_id[]                     these addresses, and all threepids of these users
//   activity    $1 from, $2 to (ms, both         user_id text, last_seen bigint (ms), user_agent text;
//               inclusive), $3 at most rows      in order of last_seen, WITH TIES
//     or, with an `activity_table` (a table without an index on the time):
//               {where}                          the same, in any order
//   visits      $1 from, $2 to (ms, both         user_id text, any instant of the day bigint (ms), user_agent
//               inclusive)                       text: the active users of each day, perhaps repeatedly; best
//                                                in order of the day, through an index on it
//   newest      $1 at (ms)                       bigint (ms): the newest activity up to then, or NULL
//   last_seen   $1 at (ms)                       user_id text, last_seen bigint (ms): one row a user
//   cohort      $1 at (ms)                       user_id text, last_seen bigint (ms): the homeserver's own
//                                                list of its monthly active users; one row a user
//   counted     none                             the same, of those whom the server itself counts
//   malformed   $1 at (ms), and {where}          relation text, reason text, key text, at most 1 000 rows
//               with an `activity_table`
//   unparsed    {where}                          host text, "user" text, key text, value text: rows that SQL
//                                                cannot read without errors. `parse` returns the value's
//                                                time; activity, malformed and usage read the table
//                                                sightings(host, "user", key, seen_at bigint (ms) or NULL)
//   malformed_visits  $1 at (ms)                 the same for visits
//   answers     $1 user_id[]                     rule text, holds boolean, detail text: how the homeserver
//                                                itself answers requests of these accounts, for mau.explain
//   usage       $1 at (ms)                       jsonb: the server's own figures by its own definitions; left
//                                                empty: Synapse's keys over all users whom mau has seen
//
// Visits are the homeserver's own record of days. They are optional: if they cannot be read, attach reports
// it and continues. Each day is read once more after it is over.
//
// The cohort is optional in the same way. Attach reads it: it has members whose activity was pruned, and
// lacks those whom the homeserver has removed. mau.compare reads those who are counted.
//
// A ban is a row of another table that makes an account a deactivated one. The end of a ban deletes the row,
// so a sync reads the accounts again that mau knows as deactivated.
//
// With `local_times_table` all queries run in the time zone in which the homeserver writes into that table.
//
// {where} restricts the query to the pages of the table that changed, by ctid: the query reads that table
// once, and no other table beside it at the same level.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mau::source {

/// A required table with its required columns.
struct Requirement {
    std::string table;
    std::vector<std::string> columns;
};

struct Contract {
    std::vector<Requirement> needs;
    std::string users_table, users;
    std::string local_times_table, local_times;  // the table and the column with times without a time zone
    std::string bans_table, bans, accounts;
    std::string threepids_table, threepids, holders;
    std::string activity_table, activity, newest, last_seen;
    std::string visits_table, visits, malformed_visits;  // the table is locked while it is read
    std::string cohort_table, cohort, counted;
    std::string malformed;
    std::string answers_table, answers;  // the table that it reads beside users_table
    std::string unparsed;
    std::optional<std::int64_t> (*parse)(std::string_view value) = nullptr;

    bool one_server_name = false;  // all accounts have the same server name
    std::string rows_go;  // why mau may have users whom the server has not, in words; empty: by pruning only
    std::string without_account;  // what a member without an account may be, in words; empty: not reported
    std::string usage, usage_with_visits;  // the second also reads daily visits; usage is used if it fails
    std::string activity_name;             // the table that `activity` reads, without an activity_table
};

/// The place of a homeserver's tables, and their properties that are known before they are read.
struct Homeserver {
    std::string schema;       // a quoted identifier
    std::string server_name;  // of mau.settings, a quoted literal; empty where it is not set
    std::function<bool(const char* table, const char* column)> has;
    std::map<std::string, std::string> queries;  // of mau.custom_source as they were at attach: part, query
    std::int64_t since = 0;                      // up to when the last sync has read (ms); 0: read it all
};

/// Makes the contract of a homeserver.
using MakeContract = Contract (*)(const Homeserver& homeserver);

struct Kind {
    const char* name;
    MakeContract make;
};

/// The kinds of homeserver, one file each.
Contract synapse(const Homeserver& homeserver);
Contract prosody(const Homeserver& homeserver);
Contract ejabberd(const Homeserver& homeserver);
Contract dendrite(const Homeserver& homeserver);
Contract custom(const Homeserver& homeserver);

inline constexpr Kind kKinds[] = {
    {"synapse", synapse},   {"prosody", prosody}, {"ejabberd", ejabberd},
    {"dendrite", dendrite}, {"custom", custom},
};

/// Writes `newest` and `last_seen` of a contract whose `activity` takes {where}.
void complete(Contract& contract);

/// Makes the query for malformed rows of a table: those without a usable time in `column`, by their
/// `user_id`.
std::string malformed(const std::string& relation, const std::string& column, const std::string& table);

/// A query of a contract that reads all of its table.
struct ContractQuery {
    std::string text;
    bool required;     // without it the homeserver cannot be read at all
    bool takes_texts;  // its parameters are text[]; those of the others are bigint
};

/// All queries that a contract has.
std::vector<ContractQuery> queries_of(const Contract& contract);

/// A text as a literal of SQL.
std::string literal(const std::string& text);

/// Puts `value` in the place of every `{name}` of a query's text.
std::string substitute(std::string text, std::string_view name, std::string_view value);

}  // namespace mau::source
