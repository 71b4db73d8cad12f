// The line is that of least squares. It reaches a target on the first day at or above it, and never if it
// does not rise.

#include "report/trend.hpp"

#include <gtest/gtest.h>

namespace mau::trend {
namespace {

// The figures are worked out by hand from the definition: slope = sum((d - md)(v - mv)) / sum((d - md)^2),
// r squared = sum((d - md)(v - mv))^2 / (sum((d - md)^2) sum((v - mv)^2)).

TEST(Trend, TwoDaysMakeALine) {
    EXPECT_FALSE(fit({}));
    EXPECT_FALSE(fit({5}));
    const auto line = fit({5, 8});
    ASSERT_TRUE(line);
    EXPECT_DOUBLE_EQ(line->per_day, 3);
    EXPECT_DOUBLE_EQ(line->intercept, 5);
    EXPECT_DOUBLE_EQ(line->r_squared, 1);
}

TEST(Trend, LeastSquares) {
    // d - md = -1.5 -0.5 0.5 1.5, v - mv = -1 0 -1 2: sums 4, 5 and 6.
    const auto line = fit({1, 2, 1, 4});
    ASSERT_TRUE(line);
    EXPECT_DOUBLE_EQ(line->per_day, 0.8);
    EXPECT_DOUBLE_EQ(line->intercept, 0.8);
    EXPECT_DOUBLE_EQ(line->r_squared, 16.0 / 30.0);
}

TEST(Trend, FallingAndLevel) {
    const auto falling = fit({10, 8, 6, 4});
    EXPECT_DOUBLE_EQ(falling->per_day, -2);
    EXPECT_DOUBLE_EQ(falling->r_squared, 1);
    EXPECT_FALSE(reaches(*falling, 100));
    EXPECT_FALSE(reaches(*falling, 3));
    const auto level = fit({7, 7, 7});
    EXPECT_DOUBLE_EQ(level->per_day, 0);
    EXPECT_DOUBLE_EQ(level->intercept, 7);
    EXPECT_DOUBLE_EQ(level->r_squared, 0);
    EXPECT_FALSE(reaches(*level, 7));
    // As much up as down: no trend, and nothing explained.
    const auto hill = fit({1, 3, 1});
    EXPECT_DOUBLE_EQ(hill->per_day, 0);
    EXPECT_DOUBLE_EQ(hill->r_squared, 0);
}

TEST(Trend, ReachesOnTheFirstDayAtOrAbove) {
    const Line line{10, 2, 1};  // 10, 12, 14, ...
    EXPECT_EQ(reaches(line, 14), 2);
    EXPECT_EQ(reaches(line, 14.5), 3);
    EXPECT_EQ(reaches(line, 16), 3);
    EXPECT_EQ(reaches(line, 10), 0);
    EXPECT_EQ(reaches(line, 1), 0);
    EXPECT_EQ(reaches(line, 10 + 2 * 36525), 36525);
    EXPECT_FALSE(reaches(line, 10 + 2 * 36525 + 1));
    // A third a day: rounding makes no day of it.
    EXPECT_EQ(reaches(*fit({0, 1.0 / 3, 2.0 / 3, 1}), 10), 30);
}

TEST(Trend, LargeFigures) {
    const auto line = fit({9e15, 9e15 + 1e12, 9e15 + 2e12});
    EXPECT_NEAR(line->per_day, 1e12, 10);
    EXPECT_NEAR(line->r_squared, 1, 1e-9);
    EXPECT_EQ(reaches(*line, 9e15 + 5.5e12), 6);
}

}  // namespace
}  // namespace mau::trend
