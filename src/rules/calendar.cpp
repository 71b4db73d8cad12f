#define MAU_PURE_SOURCE
#include "rules/calendar.hpp"

#include <limits>
#include <stdexcept>

#include <boost/date_time/gregorian/gregorian_types.hpp>

namespace mau {

namespace {

namespace gregorian = boost::gregorian;

// 1970-01-01 was a Thursday: its week began three days earlier.
constexpr Day kThursday = 3;
constexpr Day kWeek = 7;

Instant floor_div(Instant a, Instant b) {
    return a / b - (a % b < 0 ? 1 : 0);
}

Day checked(Instant day) {
    if (day < kFirstDay || day > kLastDay)
        throw std::out_of_range("day " + std::to_string(day) + " is outside 1970-01-01 to 2999-12-31");
    return static_cast<Day>(day);
}

gregorian::date epoch() {
    return gregorian::date(1970, 1, 1);
}

gregorian::date to_date(Day day) {
    return epoch() + gregorian::days(checked(day));
}

Day days_since_epoch(const gregorian::date& date) {
    return static_cast<Day>((date - epoch()).days());
}

gregorian::date month_begin(Day day) {
    const gregorian::date date = to_date(day);
    return gregorian::date(date.year(), date.month(), 1);
}

}  // namespace

Day day_of(Instant at) {
    const Instant day = floor_div(at, kDay);
    if (day < std::numeric_limits<Day>::min() || day > std::numeric_limits<Day>::max())
        throw std::out_of_range("instant " + std::to_string(at) + " ms is too far from 1970");
    return static_cast<Day>(day);
}

DayRange r30v2_days(Instant at) {
    const Day today = day_of(at);
    const bool first_second = at - day_start(today) < 1000;
    // Through the instants, so that the ends of Day are checked as well.
    return {day_of(day_start(today) - 59 * kDay), first_second ? today : day_of(day_start(today) + kDay)};
}

Day first_day_of_month(Day day) {
    return days_since_epoch(month_begin(day));
}

Day last_day_of_month(Day day) {
    return days_since_epoch(to_date(day).end_of_month());
}

Day next_month(Day day) {
    return last_day_of_month(day) + 1;
}

std::string day_label(Day day) {
    const gregorian::date date = to_date(day);
    const auto two_digits = [](int number) { return (number < 10 ? "-0" : "-") + std::to_string(number); };
    return std::to_string(date.year()) + two_digits(date.month()) + two_digits(date.day());
}

Period period_called(std::string_view name) {
    if (name == "day") return Period::day;
    if (name == "week") return Period::week;
    if (name == "month") return Period::month;
    throw std::invalid_argument("period \"" + std::string(name) + "\" is not one of day, week, month");
}

std::int32_t period_index(Period period, Day day) {
    checked(day);
    switch (period) {
        case Period::day:
            return day;
        case Period::week:
            return (day + kThursday) / kWeek;
        case Period::month:
            break;
    }
    const gregorian::date date = to_date(day);
    return (date.year() - 1970) * 12 + date.month() - 1;
}

Day period_first(Period period, std::int32_t index) {
    if (index < 0 || index > period_index(period, kLastDay) + 1)
        throw std::out_of_range("period " + std::to_string(index) + " is outside 1970 to 2999");
    switch (period) {
        case Period::day:
            return index;
        case Period::week:
            return index * kWeek - kThursday;
        case Period::month:
            break;
    }
    const auto year = static_cast<unsigned short>(1970 + index / 12);
    return days_since_epoch(gregorian::date(year, static_cast<unsigned short>(index % 12 + 1), 1));
}

}  // namespace mau
