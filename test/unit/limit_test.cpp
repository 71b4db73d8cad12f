// The states of the limit, to the user, and the text of an alert.

#include "rules/limit.hpp"

#include <gtest/gtest.h>

namespace mau {
namespace {

Settings limited(std::int64_t max, std::int64_t percent) {
    Settings settings;
    settings.limit_usage_by_mau = true;
    settings.max_mau_value = max;
    settings.limit_warning_percent = percent;
    return settings;
}

TEST(LimitState, BeginsAtTheFirstUserWhoReachesThePercentage) {
    for (const std::int64_t max : {0, 1, 3, 10, 99, 100, 101, 1000})
        for (const std::int64_t percent : {1, 33, 50, 90, 99, 100}) {
            const Settings settings = limited(max, percent);
            for (std::int64_t users = 0; users <= max + 1; ++users) {
                const LimitState expected = users >= max                   ? LimitState::full
                                            : users * 100 >= max * percent ? LimitState::nearly_full
                                                                           : LimitState::free;
                EXPECT_EQ(limit_state(settings, users), expected)
                    << users << " of " << max << ", " << percent;
            }
        }
    EXPECT_EQ(limit_state(limited(2147483647, 100), 2147483646), LimitState::free);
}

TEST(LimitState, TheNextOneBeginsWhereItSays) {
    for (const std::int64_t max : {0, 1, 3, 10, 1000})
        for (const std::int64_t percent : {1, 50, 90, 100}) {
            const Settings settings = limited(max, percent);
            for (const LimitState state : {LimitState::free, LimitState::nearly_full}) {
                const std::int64_t from = users_above(settings, state).value();
                EXPECT_GT(limit_state(settings, from), state);
                if (from > 0) {
                    EXPECT_LE(limit_state(settings, from - 1), state);
                }
            }
            EXPECT_FALSE(users_above(settings, LimitState::full));
        }
}

TEST(LimitState, HasANameAndIsFoundByIt) {
    for (const LimitState state : {LimitState::free, LimitState::nearly_full, LimitState::full})
        EXPECT_EQ(limit_state_called(name(state)), state);
    EXPECT_EQ(limit_state_called("?"), LimitState::free);
}

TEST(Alerting, NeedsTheLimitAndTheSetting) {
    Settings settings = limited(1, 90);
    EXPECT_TRUE(alerting(settings));
    settings.mau_limit_alerting = false;
    EXPECT_FALSE(alerting(settings));
    settings = Settings();
    EXPECT_FALSE(alerting(settings));
}

TEST(AlertPayload, IsOneLineOfJson) {
    Settings settings = limited(1000, 90);
    const LimitChange change{LimitState::nearly_full, LimitState::full, 1000, 1'796'040'000'123};
    EXPECT_EQ(alert_payload(settings, change, "synapse"),
              R"({"state":"full","before":"nearly_full","users":1000,"limit":1000,)"
              R"("at":"2026-11-30T12:00:00.123Z","database":"synapse"})");
    settings.server_name = "example.com";
    EXPECT_EQ(alert_payload(settings, {LimitState::full, LimitState::free, 0, 1}, "a\"\n"),
              R"({"state":"free","before":"full","users":0,"limit":1000,)"
              R"("at":"1970-01-01T00:00:00.001Z","database":"a\"\u000a","server_name":"example.com"})");
}

TEST(AlertPayload, FitsIntoANotification) {
    Settings settings = limited(2147483647, 90);
    const LimitChange change{LimitState::nearly_full, LimitState::nearly_full, INT64_MAX, 32'503'679'999'999};
    settings.server_name = std::string(255, '\x01');
    EXPECT_LT(alert_payload(settings, change, std::string(63, '\x01')).size(), 8000u);
    settings.server_name = std::string(256, 'x');
    EXPECT_EQ(alert_payload(settings, change, "x").find("server_name"), std::string::npos);
}

}  // namespace
}  // namespace mau
