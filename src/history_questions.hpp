// What can be asked of the history, as values; the SQL functions are made of these.
#pragma once

#include "bitmap_algebra.hpp"

#include "history_reader.hpp"

namespace mau::history {

/// How many users were active on at least `min_days` of the days.
std::int64_t active(const World& world, const Question& question, DayRange days, std::size_t min_days);

/// How many users were active on exactly 1, 2, … of the days; the first element is for 1.
std::vector<std::int64_t> days_active(const World& world, const Question& question, DayRange days);

/// For each day the users active within the windows that end with it, one series for each window, on at least
/// `min_days` of a window's days if it is longer than a day; `arrived`, if given, gets the first visits ever.
std::vector<std::vector<std::int64_t>> series(const World& world, const Question& question, DayRange days,
                                              const std::vector<std::size_t>& windows, std::size_t min_days,
                                              std::vector<std::int64_t>* arrived = nullptr);

}  // namespace mau::history
