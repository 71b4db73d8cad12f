// Days, ISO weeks, months and windows are exact in UTC, before 1970 too; periods cover every day once; dates
// outside 1970 to 2999 are errors.

#include "rules/calendar.hpp"

#include <limits>
#include <stdexcept>

#include <boost/date_time/gregorian/gregorian_types.hpp>
#include <gtest/gtest.h>

namespace mau {
namespace {

using boost::gregorian::date;

Day day(int year, int month, int dom) {
    const date day(static_cast<unsigned short>(year), static_cast<unsigned short>(month),
                   static_cast<unsigned short>(dom));
    return static_cast<Day>((day - date(1970, 1, 1)).days());
}

TEST(Calendar, DaysOfInstantsRoundDown) {
    EXPECT_EQ(day_of(0), 0);
    EXPECT_EQ(day_of(kDay - 1), 0);
    EXPECT_EQ(day_of(kDay), 1);
    EXPECT_EQ(day_of(-1), -1);
    EXPECT_EQ(day_of(-kDay), -1);
    EXPECT_EQ(day_of(-kDay - 1), -2);
    EXPECT_EQ(day_of(1'795'226'100'080), day(2026, 11, 21));
    EXPECT_EQ(day_start(day(2024, 2, 29)), 1'709'164'800'000);
    for (const Day d : {-800, -1, 0, 1, 20'000, kLastDay}) {
        EXPECT_EQ(day_of(day_start(d)), d);
        EXPECT_EQ(day_of(day_start(d) - 1), d - 1);
    }
    EXPECT_THROW(day_of(std::numeric_limits<Instant>::max()), std::out_of_range);
    EXPECT_THROW(day_of(std::numeric_limits<Instant>::min()), std::out_of_range);
}

TEST(Calendar, TheWindowIsThirtyTimesTwentyFourHours) {
    EXPECT_EQ(kWindow, 2'592'000'000);
}

TEST(Calendar, BeginsAndEnds) {
    EXPECT_EQ(day(1970, 1, 1), kFirstDay);
    EXPECT_EQ(day(2999, 12, 31), kLastDay);
}

TEST(Calendar, OutsideTheCalendarIsAnError) {
    EXPECT_THROW(day_label(-1), std::out_of_range);
    EXPECT_THROW(day_label(kLastDay + 1), std::out_of_range);
    EXPECT_THROW(day_label(std::numeric_limits<Day>::max()), std::out_of_range);
    EXPECT_THROW(day_label(std::numeric_limits<Day>::min()), std::out_of_range);
    EXPECT_THROW(first_day_of_month(-1), std::out_of_range);
    EXPECT_THROW(last_day_of_month(kLastDay + 1), std::out_of_range);
    EXPECT_THROW(next_month(kLastDay + 1), std::out_of_range);
    for (const Period period : {Period::day, Period::week, Period::month}) {
        EXPECT_THROW(period_index(period, -1), std::out_of_range);
        EXPECT_THROW(period_index(period, kLastDay + 1), std::out_of_range);
        EXPECT_THROW(period_first(period, -1), std::out_of_range);
        EXPECT_THROW(period_first(period, period_index(period, kLastDay) + 2), std::out_of_range);
        EXPECT_EQ(period_first(period, period_index(period, kLastDay) + 1) > kLastDay, true);
    }
}

TEST(Calendar, WeeksBeginOnMonday) {
    const auto monday_of = [](Day d) { return period_first(Period::week, period_index(Period::week, d)); };
    EXPECT_EQ(monday_of(0), -3);
    // The week over a year's end, and the one with a leap day.
    EXPECT_EQ(monday_of(day(2025, 1, 1)), day(2024, 12, 30));
    EXPECT_EQ(monday_of(day(2024, 2, 29)), day(2024, 2, 26));
    for (Day d = kFirstDay; d <= kLastDay; d += 13) {
        const Day monday = monday_of(d);
        ASSERT_LE(monday, d);
        ASSERT_LT(d - monday, 7);
        ASSERT_EQ((date(1970, 1, 1) + boost::gregorian::days(monday)).day_of_week(),
                  boost::gregorian::Monday);
    }
}

TEST(Calendar, Months) {
    EXPECT_EQ(last_day_of_month(day(2023, 2, 28)), day(2023, 2, 28));
    EXPECT_EQ(last_day_of_month(day(2100, 2, 1)), day(2100, 2, 28));
    EXPECT_EQ(last_day_of_month(day(2000, 2, 1)), day(2000, 2, 29));
    EXPECT_EQ(first_day_of_month(day(2024, 2, 29)), day(2024, 2, 1));
    EXPECT_EQ(last_day_of_month(day(2024, 2, 1)), day(2024, 2, 29));
    EXPECT_EQ(next_month(day(2024, 1, 31)), day(2024, 2, 1));
    EXPECT_EQ(next_month(day(2024, 2, 29)), day(2024, 3, 1));
    EXPECT_EQ(next_month(day(2024, 12, 31)), day(2025, 1, 1));
    EXPECT_EQ(next_month(kLastDay), kLastDay + 1);
    EXPECT_EQ(day_label(day(2024, 2, 29)), "2024-02-29");
    EXPECT_EQ(day_label(day(2024, 12, 1)), "2024-12-01");
    EXPECT_EQ(day_label(day(2024, 9, 30)), "2024-09-30");
    EXPECT_EQ(day_label(day(2024, 10, 1)), "2024-10-01");
    EXPECT_EQ(day_label(kFirstDay), "1970-01-01");
    EXPECT_EQ(day_label(kLastDay), "2999-12-31");
}

TEST(Calendar, PeriodsTileTheDays) {
    EXPECT_EQ(period_called("day"), Period::day);
    EXPECT_EQ(period_called("week"), Period::week);
    EXPECT_EQ(period_called("month"), Period::month);
    EXPECT_THROW(period_called("Day"), std::invalid_argument);
    EXPECT_THROW(period_called(""), std::invalid_argument);

    for (const Period period : {Period::day, Period::week, Period::month}) {
        std::int32_t index = 0;
        for (Day d = kFirstDay; d < 40 * 366; ++d) {
            if (d == period_first(period, index + 1)) ++index;
            ASSERT_EQ(period_index(period, d), index) << d;
            ASSERT_LE(period_first(period, index), d);
        }
    }
    EXPECT_EQ(period_index(Period::month, day(2024, 2, 29)), 54 * 12 + 1);
    EXPECT_EQ(period_first(Period::month, 54 * 12 + 1), day(2024, 2, 1));
    EXPECT_EQ(period_first(Period::month, 12), day(1971, 1, 1));
    EXPECT_EQ(period_first(Period::week, 0), -3);
}

// The reference's own condition, on visits at midnight, at chosen times of a day.
TEST(Calendar, R30v2LooksAtTheReferencesDays) {
    const Day today = day(2026, 11, 21);
    for (const Instant time : {0LL, 1LL, 999LL, 1000LL, 1001LL, 43'200'000LL, 86'399'000LL, 86'399'999LL}) {
        const Instant now = day_start(today) + time;
        const Instant seconds = now / 1000;
        const auto inside = [&](Day d) {
            return day_start(d) > (seconds - 60 * 86400) * 1000 && day_start(d) < (seconds + 86400) * 1000;
        };
        const DayRange days = r30v2_days(now);
        for (Day d = today - 70; d <= today + 10; ++d)
            EXPECT_EQ(days.first <= d && d <= days.last, inside(d)) << time << " ms, day " << d - today;
    }
    EXPECT_THROW(r30v2_days(std::numeric_limits<Instant>::max()), std::out_of_range);
    EXPECT_EQ(r30v2_days(5000).first, -59);
}

}  // namespace
}  // namespace mau
