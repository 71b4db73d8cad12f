// billing: calendar months, and the summary of a month's daily figures.
#pragma once

#include "base/pure.hpp"

#include <cstdint>
#include <optional>
#include <vector>

#include "rules/calendar.hpp"

namespace mau::billing {

/// A calendar month of UTC days.
struct Month {
    DayRange days;   // the whole month
    bool partial;    // not all of its days are known: it is not over, or the history begins in it
    DayRange known;  // the known days; empty (last before first) where there are none
};

/// The months that the days of a range lie in, in order. `today` is a day that is not over; the history
/// begins on `first_known`.
std::vector<Month> months(DayRange range, Day first_known, Day today);

/// The highest and the mean of a month's daily figures, of which the first is that of `series_first`; nothing
/// for a month without known days.
struct Summary {
    std::int64_t highest;
    double mean;
};
std::optional<Summary> summarize(const Month& month, const std::vector<std::int64_t>& series,
                                 Day series_first);

}  // namespace mau::billing
