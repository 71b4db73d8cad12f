// Settings, reserved threepids, appservices and users as values, and the session's cache of the first three.
//
// The session's cache (`Config`) holds the committed settings. A relcache invalidation of mau.settings drops
// it: the tables' triggers send one at commit, and so does DROP or CREATE EXTENSION. So a change is effective
// at commit, in every session, before its next statement.
//
// A `Config` never changes. After a change the next call loads a new one; callers share the ownership of
// theirs, because a trigger of an administrator's, or a homeserver's view, may call mau while it is in use.
#pragma once

#include <memory>

#include "rules/policy.hpp"

#include "pg/spi.hpp"
#include "pg/heap.hpp"

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

inline constexpr const char* kUsersIndex = "users_user_id";
inline constexpr const char* kCohortIndex = "monthly_active_users_pkey";
inline constexpr const char* kDaysIndex = "active_days_pkey";
inline constexpr const char* kVisitsIndex = "visits_user_no";

/// The configuration, and the OIDs of our tables.
struct Config {
    Settings settings;
    std::vector<Appservice> appservices;
    std::vector<Threepid> reserved;  // in order of position
    std::uint32_t generation = 0;    // of all that: as it was before it was read

    // An index is none while an administrator has dropped it, or builds it anew.
    Oid settings_table = InvalidOid, reserved_table = InvalidOid, appservices_table = InvalidOid;
    Oid users_table = InvalidOid, users_index = InvalidOid, users_sequence = InvalidOid;
    Oid cohort_table = InvalidOid, cohort_index = InvalidOid;
    Oid cohort_by_time = InvalidOid;   // the index on `renewed`
    std::uint64_t cohort_version = 0;  // changes with the cohort's triggers
    bool cohort_is_watched = false;    // whether these triggers notice whatever is written to it
    Oid threepids_table = InvalidOid;
    Oid visits_table = InvalidOid;
    Oid days_table = InvalidOid;
    pg::OwnObjects on_users, on_cohort;  // mau's own triggers and constraints on the tables

    const Appservice* appservice(std::string_view id) const;
};

/// The service of an account, by its row `u` of mau.users, and whether it is a support user's: in the words
/// of the index users_not_counted, else the planner does not find that it can use it.
#define MAU_SERVICE_OF_U "coalesce(nullif(u.appservice_id, ''), 'native')"
#define MAU_U_IS_SUPPORT "((u.user_type = 'support') IS TRUE)"

namespace cohort {
/// Columns of mau.monthly_active_users, as `pg::Found` numbers them.
enum Column { user_id, timestamp, service, renewed, visited };
}  // namespace cohort

namespace config {

/// Registers the invalidation callback; called once per process.
void init();

/// The current configuration. Needs SPI (`pg::with_spi`) only when something changed. Keep the
/// pointer as long as references or views into it are in use.
std::shared_ptr<const Config> config();
/// The same without waiting for a lock; null if a table of the settings is locked.
std::shared_ptr<const Config> try_config();
/// Whether the configuration's relations, and the triggers of the cohort, are still the current ones. With
/// locks on its tables this holds to the end of the transaction. Does not wait: false if it cannot be
/// determined.
bool is_latest(const Config& config);

/// The account of a user from its row in mau.users (columns as in the table); for an id without a row, or
/// never registered, appservices' senders and exclusive namespaces decide to which appservice it belongs.
/// Views point into `row`, `config`.
Account account(const Config& config, std::string_view user_id, const pg::Found& row);

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
    visited,
    is_locked
};
}

/// The form in which addresses are compared.
std::string fold_address(std::string_view medium, std::string_view address);
/// Whether a threepid is in the list of reserved ones, at any position.
bool is_reserved(const Config& config, std::string_view medium, std::string_view address);

/// The users who own one of the first `max_mau_value` reserved threepids; not support users, who are never
/// members. Nobody without `limit_usage_by_mau`. In SPI's memory.
std::vector<std::string_view> registered_reserved_users(const Config& config);
/// The same as the caller's statement sees it: for figures.
std::vector<std::string_view> reserved_users_of_statement();
/// Whether the user is one of them.
bool is_reserved_user(const Config& config, std::string_view user_id);

/// An appservice's id as it is stored: one that is called native gets another name, because "native" stands
/// for users without an appservice.
inline std::string_view stored_appservice(std::string_view id) {
    return id == "native" ? std::string_view("native (appservice)") : id;
}
inline std::optional<std::string_view> stored_appservice(std::optional<std::string_view> id) {
    return id ? std::optional(stored_appservice(*id)) : id;
}

/// The appservice to which the account belongs, or "native".
inline std::string_view service(const Account& account) {
    return account.appservice.empty() ? std::string_view("native") : account.appservice;
}

}  // namespace config
}  // namespace mau
