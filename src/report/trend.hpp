// trend: a straight line through a series of daily figures, and the day on which it reaches a limit.
#pragma once

#include "base/pure.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace mau::trend {

/// A line by least squares: value = intercept + per_day * day, where day 0 is the first of the series.
struct Line {
    double intercept = 0;
    double per_day = 0;
    double r_squared = 0;  // how much of the ups and downs the line explains, 0 to 1; 0 for a level series
};

/// The line through a series; nothing with fewer than two days.
std::optional<Line> fit(const std::vector<double>& series);

/// The first day, counted from day 0 of the series, on which the line is at `target` or above; nothing if the
/// line does not rise, or takes more than a hundred years.
std::optional<std::int64_t> reaches(const Line& line, double target);

}  // namespace mau::trend
