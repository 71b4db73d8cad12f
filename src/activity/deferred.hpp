// Deferred calls: calls that would have to wait for another transaction. Their arguments are stored in
// mau.deferred_calls, so the caller does not wait, and the call is carried out whether the other transaction
// commits or aborts. `replay` (activity/replay.hpp) carries them out.
//
// Rows are appended, and deleted when the call is carried out. A call that still cannot be carried out is
// appended again.
#pragma once

#include "rules/platform.hpp"

#include <optional>

#include "rules/calendar.hpp"
#include "pg/spi.hpp"

namespace mau::deferred {

enum class Function { record_activity, register_user, add_threepid, remove_threepid, deactivate_user };

/// A call: the function, and those of its arguments that it has.
struct Call {
    Function function = Function::record_activity;
    std::string_view user_id;
    std::optional<std::int64_t> at;         // of the sighting or the registration, epoch milliseconds
    Platform platform = Platform::unknown;  // of the sighting
    std::optional<std::string_view> user_type, appservice_id;
    std::optional<bool> is_guest;
    std::optional<std::string_view> medium, address;       // the address folded
    std::optional<std::int64_t> called_at = std::nullopt;  // PostgreSQL's microseconds; now, if not given
};

/// While another session has locked the table, calls cannot be stored: they are lost with a WARNING (warn),
/// or append() raises 55P03 (raise).
enum class WhenLocked { warn, raise };
/// Appends calls without waiting.
void append(const std::vector<Call>& calls, WhenLocked when_locked = WhenLocked::warn);

/// Whether deferred reports about the user's account or threepids exist; the next report must follow them.
bool has_reports(std::string_view user_id);

/// Removes and returns at most `limit` calls that were made between two instants of PostgreSQL's (without
/// `after`, from the oldest on), the oldest first: all, or those of a user about accounts. Calls that another
/// transaction has taken are left. Views live in SPI's memory.
std::vector<Call> take(std::optional<std::int64_t> after, std::int64_t before, std::int64_t limit);
std::vector<Call> take_reports(std::string_view user_id);

/// Removes all calls of a user; returns whether there were any.
bool forget(std::string_view user_id);

}  // namespace mau::deferred
