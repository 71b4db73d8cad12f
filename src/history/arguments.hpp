// The arguments that the questions of the history have in common, checked, and the cells of their answers.
#pragma once

#include "rules/calendar.hpp"

#include "history/reader.hpp"
#include "pg/values.hpp"

namespace mau::history {

inline constexpr Day kLongestRange = 36525;  // a hundred years of rows
inline constexpr int kLongestWindow = 1000;

/// The number of days of a range.
inline std::size_t length(DayRange days) {
    return static_cast<std::size_t>(days.last - days.first + 1);
}

/// The days of a period that ends with a day.
inline DayRange ending(Day last, Day days) {
    return {last - days + 1, last};
}

/// The day of now(), which is the same in all of a transaction.
Day today();

/// The days from argument `i` to the next one; NULL: up to `last`, and `days` of them. Errors: 22008 for a
/// day outside 1970 to 2999, 22023 for a range that is reversed or too long.
DayRange range_of(FunctionCallInfo fcinfo, int i, Day last, Day days);
/// The same for whole periods; NULL: up to `last`, and `count` of them.
DayRange range_of(FunctionCallInfo fcinfo, int i, Day last, Period unit, int count);

/// A date argument, or nothing for NULL. Errors: 22008 outside 1970 to 2999.
std::optional<Day> optional_day(FunctionCallInfo fcinfo, int i, const char* name);

/// The period that an argument names: day, week or month. Errors: 22023.
Period period_of(const pg::Arguments& args, int i);

/// An integer argument within limits; NULL: `otherwise`. Errors: 22023.
std::size_t number_of(FunctionCallInfo fcinfo, int i, const char* name, int otherwise, int least, int most);

/// The question of the arguments service, platform and kind; an argument number of -1 leaves its default.
/// Errors: 22023.
Question question_of(const pg::Arguments& args, int service, int platform, int kind);

/// A period's length in days, rounded up. Errors: 22023.
Day days_of(FunctionCallInfo fcinfo, int i);

/// Checks that a window has at least so many days. Errors: 22023.
void check_min_days(std::size_t min_days, std::size_t window);

/// A day as the cell of an answer.
pg::Param cell(Day day);

/// A share; nothing if the whole is 0.
std::optional<double> ratio(std::int64_t part, std::int64_t whole);

}  // namespace mau::history
