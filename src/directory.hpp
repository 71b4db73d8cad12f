// Settings, reserved threepids, appservices and users as values, and the session's cache of the first three.
//
// The cache (`World`) is loaded with what is committed now and dropped by relcache invalidation of
// mau.settings: the tables' triggers send one at commit, and DROP/CREATE EXTENSION sends one by itself. So a
// change is effective at commit, in every session, before its next statement.
#pragma once

#include "policy.hpp"

#include "pg/spi.hpp"
#include "pg/table.hpp"

namespace mau {

struct Appservice {
    std::string id;
    std::optional<std::int64_t> trial_days;
    std::optional<std::string> sender;
    std::vector<std::string> exclusive_user_regexes;
};

struct Threepid {
    std::string medium;
    std::string address;  // folded
};

/// Everything that is configured, and where our tables are.
struct World {
    Settings settings;
    std::vector<Appservice> appservices;
    std::vector<Threepid> reserved;  // in order of position
    std::uint32_t generation = 0;    // of all that: as it was before it was read

    Oid settings_table = InvalidOid;
    Oid users_table = InvalidOid, users_index = InvalidOid, users_numbers = InvalidOid;
    Oid cohort_table = InvalidOid, cohort_index = InvalidOid;
    Oid cohort_by_time = InvalidOid;   // the index on `renewed`; an admin may have dropped it
    std::uint64_t cohort_version = 0;  // changes with the cohort's triggers
    bool cohort_is_watched = false;    // whether these triggers notice whatever is written to it
    Oid threepids_table = InvalidOid;
    Oid visits_table = InvalidOid, visits_index = InvalidOid;
    Oid days_table = InvalidOid, days_index = InvalidOid;
    pg::Known on_users, on_cohort;  // what of ours is on the tables

    const Appservice* appservice(std::string_view id) const;
};

/// The service of an account, by its row `u` of mau.users. (coalesce(nullif(…)) would look for its = in the
/// caller's search_path, and so would IS DISTINCT FROM.)
#define MAU_SERVICE_OF_U \
    "CASE WHEN u.appservice_id OPERATOR(pg_catalog.<>) '' THEN u.appservice_id ELSE 'native' END"
#define MAU_U_IS_SUPPORT "((u.user_type OPERATOR(pg_catalog.=) 'support') IS TRUE)"

namespace directory {

/// Registers the invalidation callback; called once per process.
void init();

/// The world as it is configured now. The reference is good until the next call. Needs SPI (`pg::with_spi`)
/// only when something changed; `fresh` says whether it does.
const World& world();
/// The same without waiting for somebody's ALTER, TRUNCATE or LOCK TABLE; nothing where it cannot be had.
const World* world_at_hand();

/// What is known of a user from its row in mau.users (columns as in the table); for an id without a row, or
/// never registered, appservices' senders and exclusive namespaces decide whose it is. Views point into
/// `row`, `world`.
Account account(const World& world, std::string_view user_id, const pg::Found& row);

/// Columns of mau.users, as `pg::Found` numbers them.
namespace users {
enum Column {
    user_no,
    user_id,
    registered_at,
    last_seen,
    appservice_id,
    user_type,
    is_registered,
    is_guest,
    is_deactivated,
    visited
};
}

/// The form in which addresses are compared.
std::string fold_address(std::string_view medium, std::string_view address);
/// Whether a threepid is in the list of reserved ones, at any position.
bool is_reserved(const World& world, std::string_view medium, std::string_view address);

/// The users who own one of the first `max_mau_value` reserved threepids; not support users, who are never
/// members. Nobody without `limit_usage_by_mau`. In SPI's memory.
std::vector<std::string_view> registered_reserved_users(const World& world);
/// Whether the user is one of them.
bool is_reserved_user(const World& world, std::string_view user_id);

/// The name of the appservice whose rows a user's are, or "native".
inline std::string_view service(const Account& account) {
    return account.appservice.empty() ? std::string_view("native") : account.appservice;
}

}  // namespace directory
}  // namespace mau
