#define MAU_PURE_SOURCE
#include "report/trend.hpp"

#include <algorithm>
#include <cmath>

namespace mau::trend {

std::optional<Line> fit(const std::vector<double>& series) {
    const std::size_t n = series.size();
    if (n < 2) return std::nullopt;
    const double middle = static_cast<double>(n - 1) / 2;
    double mean = 0;
    for (const double value : series) mean += value / static_cast<double>(n);
    double with_day = 0, of_days = 0, of_values = 0;
    for (std::size_t day = 0; day < n; ++day) {
        const double d = static_cast<double>(day) - middle, v = series[day] - mean;
        with_day += d * v;
        of_days += d * d;
        of_values += v * v;
    }
    Line line;
    line.per_day = with_day / of_days;
    line.intercept = mean - line.per_day * middle;
    if (of_values > 0) line.r_squared = with_day * with_day / (of_days * of_values);
    return line;
}

std::optional<std::int64_t> reaches(const Line& line, double target) {
    constexpr double kLongest = 36525;
    if (!(line.per_day > 0)) return std::nullopt;
    // Tolerates rounding: the line is made of rounded numbers.
    const double day = std::ceil((target - line.intercept) / line.per_day - 1e-9);
    if (!(day <= kLongest)) return std::nullopt;
    return static_cast<std::int64_t>(std::max(0.0, day));
}

}  // namespace mau::trend
