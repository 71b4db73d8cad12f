#define MAU_PURE_SOURCE
#include "rules/platform.hpp"

#include <cstring>
#include <string>

namespace mau {

namespace {

constexpr char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// The text in lower case, in a buffer on the stack where it fits, because every sighting needs it.
class Lowered {
  public:
    explicit Lowered(std::string_view text) : size_(text.size()) {
        char* to = small_;
        if (size_ > sizeof small_) {
            large_.resize(size_);
            to = large_.data();
        }
        for (std::size_t i = 0; i < size_; ++i) to[i] = lower(text[i]);
        text_ = to;
    }
    bool contains(std::string_view word) const {
        return memmem(text_, size_, word.data(), word.size()) != nullptr;
    }

  private:
    std::size_t size_;
    const char* text_;
    char small_[512];
    std::string large_;
};

}  // namespace

Platform platform_of(std::string_view user_agent) {
    if (user_agent.empty()) return Platform::unknown;
    const Lowered agent(user_agent);
    if (agent.contains("riot") || agent.contains("element")) {
        if (agent.contains("electron")) return Platform::electron;
        if (agent.contains("android")) return Platform::android;
        if (agent.contains("ios")) return Platform::ios;
        return Platform::unknown;
    }
    if (agent.contains("mozilla") || agent.contains("gecko")) return Platform::web;
    return Platform::unknown;
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
