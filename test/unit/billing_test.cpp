// A range of days gives whole calendar months. Months that are not whole are marked as partial, and a month
// has the highest and the mean of its known days.

#include "report/billing.hpp"

#include <boost/date_time/gregorian/gregorian_types.hpp>
#include <gtest/gtest.h>

namespace mau::billing {
namespace {

Day day(int year, int month, int dom) {
    using boost::gregorian::date;
    const date day(static_cast<unsigned short>(year), static_cast<unsigned short>(month),
                   static_cast<unsigned short>(dom));
    return static_cast<Day>((day - date(1970, 1, 1)).days());
}

/// A month as "first last, known first last, partial".
std::string said(const Month& month) {
    const std::string known = month.known.last < month.known.first
                                  ? "none"
                                  : day_label(month.known.first) + " " + day_label(month.known.last);
    return day_label(month.days.first) + " " + day_label(month.days.last) + ", " + known +
           (month.partial ? ", partial" : "");
}

std::vector<std::string> said(const std::vector<Month>& months) {
    std::vector<std::string> all;
    for (const Month& month : months) all.push_back(said(month));
    return all;
}

using Months = std::vector<std::string>;

TEST(Billing, WholeMonthsOfAnyDaysInThem) {
    EXPECT_EQ(said(months({day(2024, 1, 31), day(2024, 3, 1)}, day(2023, 1, 1), day(2024, 5, 5))),
              (Months{"2024-01-01 2024-01-31, 2024-01-01 2024-01-31",
                      "2024-02-01 2024-02-29, 2024-02-01 2024-02-29",
                      "2024-03-01 2024-03-31, 2024-03-01 2024-03-31"}));
    EXPECT_EQ(said(months({day(2023, 2, 10), day(2023, 2, 10)}, day(2023, 1, 1), day(2024, 5, 5))),
              (Months{"2023-02-01 2023-02-28, 2023-02-01 2023-02-28"}));
    EXPECT_EQ(said(months({day(2023, 12, 31), day(2024, 1, 1)}, day(2023, 1, 1), day(2024, 5, 5))),
              (Months{"2023-12-01 2023-12-31, 2023-12-01 2023-12-31",
                      "2024-01-01 2024-01-31, 2024-01-01 2024-01-31"}));
}

TEST(Billing, MonthsThatAreNotWholeAreMarked) {
    // The history begins within a month; today is not over, so its month is not, even on the last day.
    EXPECT_EQ(said(months({day(2024, 1, 1), day(2024, 4, 30)}, day(2024, 2, 2), day(2024, 3, 31))),
              (Months{"2024-01-01 2024-01-31, none, partial",
                      "2024-02-01 2024-02-29, 2024-02-02 2024-02-29, partial",
                      "2024-03-01 2024-03-31, 2024-03-01 2024-03-31, partial",
                      "2024-04-01 2024-04-30, none, partial"}));
    // It begins on a first, and the day after a last.
    EXPECT_EQ(said(months({day(2024, 2, 1), day(2024, 3, 31)}, day(2024, 2, 1), day(2024, 4, 1))),
              (Months{"2024-02-01 2024-02-29, 2024-02-01 2024-02-29",
                      "2024-03-01 2024-03-31, 2024-03-01 2024-03-31"}));
    // The calendar's last month ends it.
    EXPECT_EQ(months({kLastDay, kLastDay}, 0, day(2024, 1, 1)).size(), 1u);
}

TEST(Billing, HighestAndMeanOfTheKnownDays) {
    // February 2024 from the 27th on: 4 8 6; the series begins on the 26th and goes on into March.
    const Month month{{day(2024, 2, 1), day(2024, 2, 29)}, true, {day(2024, 2, 27), day(2024, 2, 29)}};
    const auto summary = summarize(month, {100, 4, 8, 6, 100}, day(2024, 2, 26));
    ASSERT_TRUE(summary);
    EXPECT_EQ(summary->highest, 8);
    EXPECT_DOUBLE_EQ(summary->mean, 6);
    EXPECT_FALSE(summarize({{0, 30}, true, {5, 4}}, {}, 0));
    const auto one = summarize({{0, 30}, true, {3, 3}}, {0, 0, 0, 7}, 0);
    EXPECT_EQ(one->highest, 7);
    EXPECT_DOUBLE_EQ(one->mean, 7);
}

}  // namespace
}  // namespace mau::billing
