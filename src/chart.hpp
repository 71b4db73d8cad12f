// chart: a series as columns of Unicode blocks, for a terminal.
#pragma once

#include "pure.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace mau::chart {

/// How a number is written at the axis: 1234 as it is, then 12.3k, 4.56M; fractions with two digits.
std::string label(double value);

/// Draws the series, oldest first, at most `width` characters wide and `height` lines of blocks high, with
/// the highest value and 0 at the axis and `first` and `last` below it. Where there are more values than
/// columns, a column is the mean of its values; where there are fewer, a value is as many columns wide as go
/// in. Answers the lines, in UTF-8, without trailing spaces. Negative values are drawn as 0.
std::vector<std::string> draw(const std::vector<double>& series, std::size_t width, std::size_t height,
                              const std::string& first, const std::string& last);

}  // namespace mau::chart
