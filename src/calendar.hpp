#pragma once
#include <cstdint>
namespace mau {
using Instant = std::int64_t;
inline constexpr Instant kDay = 86'400'000;
inline constexpr Instant kWindow = 30 * kDay;
}
