#define MAU_PURE_SOURCE
#include "rules/limit.hpp"

#include <cstdio>
#include <iterator>

#include "rules/json.hpp"

namespace mau {

namespace {

constexpr const char* kNames[] = {"free", "nearly_full", "full"};
constexpr std::size_t kLongestHost = 255;

/// The instant as in "2026-11-30T12:00:00.123Z".
std::string in_iso(Instant at) {
    const Day day = day_of(at);
    const auto ms = static_cast<int>(at - day_start(day));
    char time[24];
    std::snprintf(time, sizeof time, "T%02d:%02d:%02d.%03dZ", ms / 3'600'000, ms / 60'000 % 60,
                  ms / 1000 % 60, ms % 1000);
    return day_label(day) + time;
}

std::int64_t nearly_full_from(const Settings& settings) {
    return (settings.max_mau_value * settings.limit_warning_percent + 99) / 100;
}

}  // namespace

const char* name(LimitState state) {
    return kNames[static_cast<int>(state)];
}

LimitState limit_state_called(std::string_view name) {
    for (std::size_t i = 0; i < std::size(kNames); ++i)
        if (name == kNames[i]) return static_cast<LimitState>(i);
    return LimitState::free;
}

LimitState limit_state(const Settings& settings, std::int64_t users) {
    if (full(settings, users)) return LimitState::full;
    return users >= nearly_full_from(settings) ? LimitState::nearly_full : LimitState::free;
}

std::optional<std::int64_t> users_above(const Settings& settings, LimitState state) {
    switch (state) {
        case LimitState::free:
            return nearly_full_from(settings);
        case LimitState::nearly_full:
            return settings.max_mau_value;
        case LimitState::full:
            break;
    }
    return std::nullopt;
}

std::string alert_payload(const Settings& settings, const LimitChange& change, std::string_view database) {
    std::string json = "{\"state\":";
    append_json(json, name(change.state));
    json += ",\"before\":";
    append_json(json, name(change.before));
    json += ",\"users\":" + std::to_string(change.users);
    json += ",\"limit\":" + std::to_string(settings.max_mau_value);
    json += ",\"at\":";
    append_json(json, in_iso(change.at));
    json += ",\"database\":";
    append_json(json, database);
    if (settings.server_name && settings.server_name->size() <= kLongestHost) {
        json += ",\"server_name\":";
        append_json(json, *settings.server_name);
    }
    return json + "}";
}

}  // namespace mau
