// platform: the client of a user agent, as coarse as in Synapse's r30v2.
#pragma once

#include "base/pure.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mau {

/// The numbers are stored (mau.active_days, mau.visits) and never change.
enum class Platform : std::int16_t { unknown = 0, web = 1, electron = 2, android = 3, ios = 4 };
inline constexpr int kPlatforms = 5;

/// The client of a user agent by Synapse's rule: with "riot" or "element" in it, electron, android or ios,
/// the first of these words that is in it, else unknown; else web with "mozilla" or "gecko" in it; else
/// unknown. Case does not matter.
Platform platform_of(std::string_view user_agent);

/// `platform_of` with a memory of the last user agents, because it searches each several times.
class PlatformMemo {
  public:
    Platform platform_of(std::string_view user_agent);

  private:
    static constexpr std::size_t kEntries = 32, kLength = 238;
    struct Entry {
        std::uint8_t size = 0;
        Platform platform = Platform::unknown;
        char agent[kLength];
    };
    Entry entries_[kEntries];
};

/// The platform's name as the SQL functions take and return it.
const char* name(Platform platform);
/// The platform of a name, or nothing.
std::optional<Platform> platform_called(std::string_view called);

}  // namespace mau
