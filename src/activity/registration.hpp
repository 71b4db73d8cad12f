// What homeservers tell about accounts: registered, deactivated, threepids, forgotten.
#pragma once

#include "rules/policy.hpp"

#include "activity/deferred.hpp"

#include "cohort/cohort.hpp"

namespace mau::registration {

/// Carries out what a homeserver reports of an account or a threepid (any call but record_activity); answers
/// what the SQL function answers: whether a registered user joined, a threepid was removed, or the account
/// deactivated. Waits for others.
bool carry_out(const Config& config, const deferred::Call& report);

/// Whether `carry_out` would wait for nobody, as far as can be seen: nobody has locked the tables that it
/// writes, nor has the rows in flight. (Somebody may come in between: pg::NoWaiting.)
bool can_carry_out(const Config& config, const deferred::Call& report);

/// Accounts as a homeserver's tables show them, in parallel arrays; no user twice. A text without data is
/// NULL.
struct Accounts {
    std::vector<std::string_view> user_ids, user_types, appservice_ids;
    std::vector<std::optional<std::int64_t>> registered_at;  // epoch milliseconds
    std::vector<char> guests, deactivated;
};

/// Makes accounts known as they are shown, in the order given: what is new or differs is written, and who was
/// taken for a native user moves to the appservice. Answers how many were. Wants a search_path that is safe.
std::int64_t take_over(const Config& config, const Accounts& accounts);

/// The same where mau.users is empty: nobody is looked for; a user who is there already is an error (23505).
std::int64_t take_over_first(const Accounts& accounts);

/// Removes all that tells who a user was; the number stays, for past totals. Answers whether there was
/// anything.
bool forget(const Config& config, std::string_view user_id);

}  // namespace mau::registration
