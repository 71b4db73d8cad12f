#pragma once

// calendar: windows, days, weeks and months on epoch milliseconds. Everything is UTC: no time zone, no
// daylight saving.
//
// Plain arithmetic (day_of, day_start) works on either side of 1970, so that a window may reach
// back over it. Whatever has a name in the calendar (a date, a week, a month) exists from 1970-01-01 to
// 2999-12-31; std::out_of_range says that a value lies outside.

#include "base/pure.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace mau {

using Instant = std::int64_t;  // milliseconds since 1970-01-01 00:00 UTC
using Day = std::int32_t;      // days since 1970-01-01

inline constexpr Instant kDay = 86'400'000;
inline constexpr Instant kWindow = 30 * kDay;
inline constexpr Day kFirstDay = 0;       // 1970-01-01
inline constexpr Day kLastDay = 376'199;  // 2999-12-31

/// The days from first to last, both included.
struct DayRange {
    Day first;
    Day last;
};

/// The period of retention. Weeks are ISO weeks: they begin on Monday.
enum class Period { day, week, month };

/// The UTC day that an instant falls on, rounding down before 1970 too; std::out_of_range if it is no Day.
Day day_of(Instant at);

/// The first millisecond of a day.
constexpr Instant day_start(Day day) {
    return day * kDay;
}

/// The days whose visits Synapse's r30v2 looks at when it is asked at an instant; std::out_of_range if they
/// are no Days. It wants (now - 60 d, now + 1 d), now in whole seconds; visits stand at midnight. So the 60th
/// day back is never inside (59 is the last), and tomorrow always is, except in the first second of a day.
DayRange r30v2_days(Instant at);

/// The first day of the month that a day lies in; std::out_of_range outside 1970..2999.
Day first_day_of_month(Day day);

/// The last day of the month that a day lies in; std::out_of_range outside 1970..2999.
Day last_day_of_month(Day day);

/// The first day of the month after the one that a day lies in; std::out_of_range if the day is outside
/// 1970..2999.
Day next_month(Day day);

/// A day as "yyyy-mm-dd"; std::out_of_range outside 1970..2999.
std::string day_label(Day day);

/// The period called 'day', 'week' or 'month'; std::invalid_argument for anything else.
Period period_called(std::string_view name);

/// The running number of the period that a day lies in: 0 is the one with 1970-01-01, neighbours differ by
/// one. std::out_of_range if the day is outside 1970..2999.
std::int32_t period_index(Period period, Day day);

/// The first day of a period, by its number; period_first(p, i + 1) - 1 is its last.
/// std::out_of_range if no day of 1970..2999 lies in the period or in the one before it.
Day period_first(Period period, std::int32_t index);

}  // namespace mau
