// chart: a series as columns of blocks, for a terminal.
#pragma once

#include "base/pure.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace mau::chart {

/// The least width that holds the axis and two dates.
inline constexpr std::size_t kLeastWidth = 30;

/// The characters of a chart: Unicode's blocks and lines, in UTF-8, or plain ASCII.
enum class Style { blocks, ascii };

/// The text of a number at the axis, in at most 5 characters: 0.25, 33.3, 1234, then 12.3k, 4.56M, 7.89G,
/// ...
std::string label(double value);

/// Draws the series, oldest first, at most `width` characters wide (kLeastWidth or more) and `height` lines
/// of blocks high, with the highest column's value and 0 at the axis and `first` and `last` below it. Where
/// there are more values than columns, a column is the mean of its values; where there are fewer, a value is
/// up to 3 columns wide. NaN is no value: left out of the mean, and a gap where there is no other. Negative
/// values are drawn as 0. Returns the lines, without trailing spaces; none for an empty series.
std::vector<std::string> draw(const std::vector<double>& series, std::size_t width, std::size_t height,
                              const std::string& first, const std::string& last, Style style);

}  // namespace mau::chart
