#define MAU_PURE_SOURCE
#include "report/billing.hpp"

#include <algorithm>

namespace mau::billing {

std::vector<Month> months(DayRange range, Day first_known, Day today) {
    std::vector<Month> months;
    for (Day first = first_day_of_month(range.first); first <= range.last; first = next_month(first)) {
        Month month;
        month.days = {first, last_day_of_month(first)};
        month.known = {std::max(first, first_known), std::min(month.days.last, today)};
        month.partial = month.known.first != first || month.days.last >= today;
        months.push_back(month);
        if (month.days.last == kLastDay) break;
    }
    return months;
}

std::optional<Summary> summarize(const Month& month, const std::vector<std::int64_t>& series,
                                 Day series_first) {
    if (month.known.last < month.known.first) return std::nullopt;
    Summary summary{0, 0};
    for (Day day = month.known.first; day <= month.known.last; ++day) {
        const std::int64_t value = series[static_cast<std::size_t>(day - series_first)];
        summary.highest = std::max(summary.highest, value);
        summary.mean += static_cast<double>(value);
    }
    summary.mean /= month.known.last - month.known.first + 1;
    return summary;
}

}  // namespace mau::billing
