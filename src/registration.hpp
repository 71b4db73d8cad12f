// What homeservers tell about accounts: registered, deactivated, threepids, forgotten.
#pragma once

#include "cohort.hpp"

namespace mau::registration {

/// What a homeserver says of an account. Fields without a value say nothing.
struct Report {
    std::string_view user_id;
    Instant registered_at;
    std::optional<std::string_view> user_type;
    std::optional<std::string_view> appservice_id;
    std::optional<bool> is_guest;
};

/// Makes an account known, or updates what is known of it: the earlier registration time stays, a type or
/// appservice that is given replaces the old one, and the account is active again.
void register_user(const World& world, const Report& report);

/// Accounts as a homeserver's tables show them, in parallel arrays; no user twice. A text without data is
/// NULL.
struct Accounts {
    std::vector<std::string_view> user_ids, user_types, appservice_ids;
    std::vector<std::optional<std::int64_t>> registered_at;  // epoch milliseconds
    std::vector<char> guests, deactivated;
};

/// Makes accounts known as they are shown, in the order given: what is new or differs is written, and who was
/// taken for a native user moves to the appservice. Answers how many were. Wants a search_path that is safe.
std::int64_t take_over(const World& world, const Accounts& accounts);

/// The same where mau.users is empty: nobody is looked for; a user who is there already is an error (23505).
std::int64_t take_over_first(const Accounts& accounts);

/// Takes the user into the cohort because of a reserved threepid; not support users, not while recording is
/// off. Answers whether the user is in now.
bool join_reserved(const World& world, std::string_view user_id, Instant at);

}  // namespace mau::registration
