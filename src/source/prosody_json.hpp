// The JSON that Prosody's mod_lastlog2 stores: {"timestamp":1795226002} or
// {"ip":"::1","timestamp":1795226002}.
#pragma once

#include "base/pure.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace mau::source {

/// Longer values are refused unread, which also bounds how deep they nest.
inline constexpr std::size_t kLongestProsodyValue = 4096;

/// Returns the time of a value in milliseconds, rounded down. The value must be JSON in UTF-8, an object, and
/// have a number `timestamp` in seconds, before the year 3000; of several members of that name the last one
/// is taken, as in Prosody. Anything else returns nothing.
std::optional<std::int64_t> prosody_time(std::string_view value);

}  // namespace mau::source
