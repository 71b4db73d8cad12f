// Calls that could not be carried out, because another transaction, not done yet, holds what they write: kept
// in mau.deferred_calls, so that nobody waits, and what was acknowledged is done whatever becomes of the
// other transaction. `replay` (activity/replay.hpp) carries them out.
//
// The table is written like mau.visits: rows are appended, and taken away when they are done. A call that
// cannot be carried out then either is appended again.
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

/// Appends calls. Waits for nobody: while somebody has locked the table as a whole, the calls are lost, and a
/// WARNING says so.
void append(const std::vector<Call>& calls);

/// Whether calls of a user about accounts and threepids are there: the next one has to come after them.
bool has_reports(std::string_view user_id);

/// Takes out at most `limit` calls that were made before an instant of PostgreSQL's, the oldest first: all,
/// or those of a user about accounts. Calls that another transaction has taken are left. Views live in SPI's
/// memory.
std::vector<Call> take(std::int64_t before, std::int64_t limit);
std::vector<Call> take_reports(std::string_view user_id);

/// Removes all calls of a user; answers whether there were any.
bool forget(std::string_view user_id);

}  // namespace mau::deferred
