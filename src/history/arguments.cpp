#include "history/arguments.hpp"

#include <algorithm>

#include "history/history.hpp"

namespace mau::history {

std::optional<Day> optional_day(FunctionCallInfo fcinfo, int i, const char* name) {
    if (fcinfo->args[i].isnull) return std::nullopt;
    const DateADT date = DatumGetDateADT(fcinfo->args[i].value);
    const std::int64_t day = DATE_NOT_FINITE(date) ? -1 : std::int64_t{from_date_datum(date)};
    if (day < kFirstDay || day > kLastDay)
        throw Error(sqlstate::datetime_out_of_range, std::string(name) + " is out of range",
                    std::string("It is ") + pg::guard([&] {
                        return DatumGetCString(DirectFunctionCall1(date_out, DateADTGetDatum(date)));
                    }) + ".",
                    "Days from 1970-01-01 to 2999-12-31 can be asked for.");
    return static_cast<Day>(day);
}

Period period_of(const pg::Arguments& args, int i) {
    try {
        return period_called(args.text(i).value_or("NULL"));
    } catch (const std::invalid_argument& error) {
        throw Error(sqlstate::invalid_parameter, "unknown cohort", std::string("The ") + error.what() + ".",
                    "Pass day, week or month.");
    }
}

Day today() {
    return day_of(pg::to_instant(GetCurrentTransactionStartTimestamp()));
}

DayRange range_of(FunctionCallInfo fcinfo, int i, Day last, Day days) {
    DayRange range;
    range.last = optional_day(fcinfo, i + 1, "to_day").value_or(last);
    range.first = optional_day(fcinfo, i, "from_day").value_or(std::max(kFirstDay, range.last - days + 1));
    if (range.first > range.last)
        throw Error(sqlstate::invalid_parameter, "from_day is after to_day",
                    "They are " + day_label(range.first) + " and " + day_label(range.last) + ".",
                    "Swap them; to_day is today where it is left out.");
    if (range.last - range.first >= kLongestRange)
        throw Error(sqlstate::invalid_parameter, "too many days",
                    "They are " + std::to_string(length(range)) + ".",
                    "Ask for at most " + std::to_string(kLongestRange) + ".");
    return range;
}

DayRange range_of(FunctionCallInfo fcinfo, int i, Day last, Period unit, int count) {
    last = optional_day(fcinfo, i + 1, "to_day").value_or(last);
    const std::int32_t first = std::max(0, period_index(unit, last) - count + 1);
    return range_of(fcinfo, i, last, last - std::max(kFirstDay, period_first(unit, first)) + 1);
}

std::size_t number_of(FunctionCallInfo fcinfo, int i, const char* name, int otherwise, int least, int most) {
    const int value = fcinfo->args[i].isnull ? otherwise : DatumGetInt32(fcinfo->args[i].value);
    if (value < least || value > most)
        throw Error(sqlstate::invalid_parameter, std::string(name) + " is out of range",
                    "It is " + std::to_string(value) + ".",
                    "It is from " + std::to_string(least) + " to " + std::to_string(most) + ".");
    return static_cast<std::size_t>(value);
}

Question question_of(const pg::Arguments& args, int service, int platform, int kind) {
    Question question;
    question.service = "native";
    if (service >= 0) {
        question.service.reset();
        if (const auto name = args.text(service)) question.service = std::string(*name);
    }
    if (platform >= 0 && !args.is_null(platform)) {
        const std::string_view called = *args.text(platform);
        question.platform = platform_called(called);
        if (!question.platform) {
            std::string known;
            for (int p = 0; p < kPlatforms; ++p)
                known += (p == 0 ? "" : ", ") + std::string(name(static_cast<Platform>(p)));
            throw Error(sqlstate::invalid_parameter, "unknown platform",
                        "It is \"" + std::string(called) + "\".",
                        "The platforms are: " + known + "; NULL for any.");
        }
    }
    if (kind >= 0 && !args.is_null(kind)) question.kind = kind_called(*args.text(kind));
    return question;
}

Day days_of(FunctionCallInfo fcinfo, int i) {
    constexpr const char* kHint = "Pass an interval such as '30 days', of at most a hundred years.";
    if (fcinfo->args[i].isnull)
        throw Error(sqlstate::invalid_parameter, "period must not be NULL", {}, kHint);
    const Interval period = *DatumGetIntervalP(fcinfo->args[i].value);
    const std::int64_t days = std::int64_t{period.day} + std::int64_t{period.month} * 30 +
                              period.time / USECS_PER_DAY + (period.time % USECS_PER_DAY > 0 ? 1 : 0);
    if (days <= 0 || days > kLongestRange)
        throw Error(sqlstate::invalid_parameter, "period is out of range",
                    "It is " + std::to_string(days) + " days.", kHint);
    return static_cast<Day>(days);
}

void check_min_days(std::size_t min_days, std::size_t window) {
    if (min_days > window)
        throw Error(sqlstate::invalid_parameter, "min_days is greater than the number of days",
                    "It is " + std::to_string(min_days) + " of " + std::to_string(window) + ".",
                    "Pass a smaller min_days, or a longer period.");
}

pg::Param cell(Day day) {
    return pg::Param::of(DateADTGetDatum(to_date_datum(day)));
}

std::optional<double> ratio(std::int64_t part, std::int64_t whole) {
    if (whole == 0) return std::nullopt;
    return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace mau::history
