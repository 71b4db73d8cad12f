// Homeservers' reports about accounts: registered, deactivated, threepids, forgotten.
#pragma once

#include "rules/policy.hpp"

#include "activity/deferred.hpp"

#include "cohort/cohort.hpp"
#include "pg/locks.hpp"

namespace mau::registration {

/// Carries out a report about an account or a threepid (any call but record_activity). Returns what the SQL
/// function returns: whether a registered user joined, a threepid was removed, or the account deactivated.
/// Waits for other transactions.
bool carry_out(const Config& config, const deferred::Call& report);

/// Whether `carry_out` would not wait, as far as can be seen: no other session holds the tables or the rows.
/// One may still take them afterwards; pg::NoWaiting guards against that.
bool can_carry_out(const Config& config, const deferred::Call& report);

/// Accounts as in a homeserver's tables, in parallel arrays; no user twice. A text without data is
/// NULL.
struct Accounts {
    std::vector<std::string_view> user_ids, user_types, appservice_ids;
    std::vector<std::optional<std::int64_t>> registered_at;  // epoch milliseconds
    std::vector<char> guests, deactivated, locked;
};

/// Writes accounts that are new or differ, in the order given; a native user who turns out to belong to an
/// appservice moves to it. Returns the number written.
std::int64_t take_over(const Config& config, const Accounts& accounts);

/// The same for an empty mau.users, without look-ups; a user who exists already is an error (23505).
std::int64_t take_over_first(const Accounts& accounts);

/// Removes all personal data of a user; the user number stays, for past totals. Returns whether there was
/// any.
bool forget(const Config& config, std::string_view user_id);

}  // namespace mau::registration
