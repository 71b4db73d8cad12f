// The state of the limit, and the text that tells of a change.
#pragma once

#include "base/pure.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "rules/policy.hpp"

namespace mau {

/// How near the members are to the limit, in ascending order.
enum class LimitState { free, nearly_full, full };

/// The state's name, as in mau.limit_state and in alerts.
const char* name(LimitState state);
/// The state of that name; free for any other text.
LimitState limit_state_called(std::string_view name);

/// The state with that many monthly active users: full from `max_mau_value` on, nearly full from
/// `limit_warning_percent` of it on.
LimitState limit_state(const Settings& settings, std::int64_t users);

/// The number of users from which a state above this one begins; nothing above full.
std::optional<std::int64_t> users_above(const Settings& settings, LimitState state);

/// Whether changes of the state are told.
inline bool alerting(const Settings& settings) {
    return settings.limit_usage_by_mau && settings.mau_limit_alerting;
}

/// A change of the state.
struct LimitChange {
    LimitState before, state;
    std::int64_t users;
    Instant at;
};

/// The payload of an alert: one line of JSON. A `server_name` longer than a host name may be is left out,
/// because a payload has at most 8000 bytes.
std::string alert_payload(const Settings& settings, const LimitChange& change, std::string_view database);

}  // namespace mau
