#define MAU_PURE_SOURCE
#include "platform.hpp"

#include <algorithm>

namespace mau {

namespace {

constexpr char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Whether `word`, in lower case, is anywhere in the text.
bool contains(std::string_view text, std::string_view word) {
    return std::search(text.begin(), text.end(), word.begin(), word.end(),
                       [](char in_text, char in_word) { return lower(in_text) == in_word; }) != text.end();
}

}  // namespace

Platform platform_of(std::string_view user_agent) {
    if (user_agent.empty()) return Platform::unknown;
    if (contains(user_agent, "riot") || contains(user_agent, "element")) {
        if (contains(user_agent, "electron")) return Platform::electron;
        if (contains(user_agent, "android")) return Platform::android;
        if (contains(user_agent, "ios")) return Platform::ios;
        return Platform::unknown;
    }
    if (contains(user_agent, "mozilla") || contains(user_agent, "gecko")) return Platform::web;
    return Platform::unknown;
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
