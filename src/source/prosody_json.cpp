#define MAU_PURE_SOURCE
#include "source/prosody_json.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

namespace mau::source {

std::optional<std::int64_t> prosody_time(std::string_view value) {
    using nlohmann::json;
    constexpr double kYear3000 = 32503680000;  // in seconds
    constexpr double kRounding = 0.0005;  // in milliseconds: 0.123 s are 123 ms, although a double is less
    if (value.size() > kLongestProsodyValue) return std::nullopt;
    // The parser is a loop, not a recursion. It reads and drops nested values.
    const auto keep = [](int depth, json::parse_event_t event, json&) {
        return depth == 0 ||
               (depth == 1 && (event == json::parse_event_t::key || event == json::parse_event_t::value));
    };
    const json object = json::parse(value.begin(), value.end(), keep, /* allow_exceptions */ false);
    if (!object.is_object()) return std::nullopt;
    const auto timestamp = object.find("timestamp");
    if (timestamp == object.end() || !timestamp->is_number()) return std::nullopt;
    const auto seconds = timestamp->get<double>();
    if (!(seconds >= 0 && seconds < kYear3000)) return std::nullopt;
    return static_cast<std::int64_t>(std::floor(seconds * 1000 + kRounding));
}

}  // namespace mau::source
