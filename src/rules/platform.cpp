#define MAU_PURE_SOURCE
#include "rules/platform.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace mau {

namespace {

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

Platform platform_of(std::string_view user_agent) {
    std::string agent(user_agent);
    std::transform(agent.begin(), agent.end(), agent.begin(), lower);
    const auto has = [&](std::string_view word) {
        return memmem(agent.data(), agent.size(), word.data(), word.size()) != nullptr;
    };
    if (has("riot") || has("element"))
        return has("electron")  ? Platform::electron
               : has("android") ? Platform::android
               : has("ios")     ? Platform::ios
                                : Platform::unknown;
    return has("mozilla") || has("gecko") ? Platform::web : Platform::unknown;
}

Platform PlatformMemo::platform_of(std::string_view user_agent) {
    const std::size_t size = user_agent.size();
    if (size < 8 || size > kLength) return mau::platform_of(user_agent);
    // User agents differ in their middle and end: versions, systems, engines.
    std::uint64_t middle = 0, end = 0;
    std::memcpy(&middle, user_agent.data() + (size - 8) / 2, 8);
    std::memcpy(&end, user_agent.data() + size - 8, 8);
    const std::uint64_t mixed = (middle ^ (end * 3) ^ size) * 0x9E3779B97F4A7C15;
    Entry& entry = entries_[mixed >> 59];
    static_assert(kEntries == 1 << (64 - 59));
    if (entry.size != size || std::memcmp(entry.agent, user_agent.data(), size) != 0) {
        entry.platform = mau::platform_of(user_agent);
        entry.size = static_cast<std::uint8_t>(size);
        std::memcpy(entry.agent, user_agent.data(), size);
    }
    return entry.platform;
}

std::optional<Platform> platform_called(std::string_view called) {
    for (int i = 0; i < kPlatforms; ++i)
        if (called == name(static_cast<Platform>(i))) return static_cast<Platform>(i);
    return std::nullopt;
}

const char* name(Platform platform) {
    switch (platform) {
        case Platform::web:
            return "web";
        case Platform::electron:
            return "electron";
        case Platform::android:
            return "android";
        case Platform::ios:
            return "ios";
        case Platform::unknown:
            break;
    }
    return "unknown";
}

}  // namespace mau
