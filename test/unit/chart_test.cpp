// A chart fits into its width and height and is drawn to scale, with short labels; a missing value is a gap.

#include "report/chart.hpp"

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace mau::chart {
namespace {

const double kNone = std::nan("");
const std::string kFirst = "2026-01-01", kLast = "2026-03-31";

/// How many columns a line takes on a terminal: the characters of UTF-8.
std::size_t width_of(const std::string& line) {
    std::size_t width = 0;
    for (const char c : line) width += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return width;
}

std::vector<std::string> blocks(const std::vector<double>& series, std::size_t width, std::size_t height) {
    return draw(series, width, height, kFirst, series.size() == 1 ? kFirst : kLast, Style::blocks);
}

using Lines = std::vector<std::string>;

TEST(Chart, LabelsAreShort) {
    EXPECT_EQ(label(0), "0");
    EXPECT_EQ(label(7), "7");
    EXPECT_EQ(label(0.25), "0.25");
    EXPECT_EQ(label(9.994), "9.99");
    EXPECT_EQ(label(9.996), "10.0");
    EXPECT_EQ(label(12.5), "12.5");
    EXPECT_EQ(label(99.949), "99.9");
    EXPECT_EQ(label(99.96), "100");
    EXPECT_EQ(label(123.4), "123");
    EXPECT_EQ(label(9999), "9999");
    EXPECT_EQ(label(9999.5), "10.0k");
    EXPECT_EQ(label(10000), "10.0k");
    EXPECT_EQ(label(12345), "12.3k");
    EXPECT_EQ(label(99949), "99.9k");
    EXPECT_EQ(label(99950), "100k");
    EXPECT_EQ(label(999499), "999k");
    EXPECT_EQ(label(999500), "1.00M");
    EXPECT_EQ(label(4'560'000), "4.56M");
    EXPECT_EQ(label(9'995'000), "10.0M");
    EXPECT_EQ(label(7.89e9), "7.89G");
    EXPECT_EQ(label(1e12), "1.00T");
    EXPECT_EQ(label(1e15), "1.00P");
    EXPECT_EQ(label(9223372036854775807.0), "9.22E");
    std::mt19937_64 random(1);
    for (int i = 0; i < 20000; ++i) {
        const double value = std::exp(std::uniform_real_distribution<>(-5, std::log(9.2e18))(random));
        EXPECT_LE(label(value).size(), 5u) << value;
    }
}

TEST(Chart, IsDrawnToScale) {
    // 2 lines are 16 eighths: 16 of 16, 8, 4, 2, and 1 for what is not nothing; nothing.
    EXPECT_EQ(blocks({16, 8, 4, 2, 0.1, 0, 15, 12}, 30, 2),
              (Lines{"16 │███               ▇▇▇▄▄▄",  //
                     " 0 │██████▄▄▄▂▂▂▁▁▁   ██████",  //
                     "   └────────────────────────",  //
                     "    2026-01-01    2026-03-31"}));
}

TEST(Chart, ManyDaysAreMeans) {
    // 54 values into 27 columns: the pairs' means.
    std::vector<double> series;
    for (int i = 0; i < 54; ++i) series.push_back(i < 26 ? 0 : i < 28 ? 3 + i % 2 * 2 : 8);
    EXPECT_EQ(blocks(series, 30, 1),
              (Lines{"8 │             ▄█████████████", "  └───────────────────────────",
                     "   2026-01-01       2026-03-31"}));
}

TEST(Chart, OneDay) {
    EXPECT_EQ(blocks({5}, 72, 2), (Lines{"5 │███", "0 │███", "  └───", "   2026-01-01"}));
    EXPECT_EQ(blocks({5, 5}, 30, 1), (Lines{"5 │██████", "  └──────", "   2026-01-01 2026-03-31"}));
}

TEST(Chart, NothingToDraw) {
    EXPECT_EQ(blocks({}, 72, 8), Lines());
    EXPECT_EQ(blocks({1, 2}, 72, 0), Lines());
    for (const double nothing : {0.0, -3.0, kNone})
        EXPECT_EQ(blocks(std::vector<double>(24, nothing), 30, 2),
                  (Lines{"  │", "0 │", "  └────────────────────────", "   2026-01-01    2026-03-31"}));
}

TEST(Chart, NoValueIsAGapAndNotNothing) {
    // 27 columns of two values: a mean is of the values that there are.
    std::vector<double> series(54, 4);
    series[0] = kNone;
    series[10] = series[11] = kNone;
    EXPECT_EQ(blocks(series, 30, 1).front(), "4 │█████ █████████████████████");
    series[0] = 0;
    EXPECT_EQ(blocks(series, 30, 1).front(), "4 │▄████ █████████████████████");
}

TEST(Chart, Ascii) {
    EXPECT_EQ(draw({16, 8, 4, 2, 0.1, 0, 15, 12}, 30, 2, kFirst, kLast, Style::ascii),
              (Lines{"16 |###               ###:::", " 0 |######:::......   ######",
                     "   +------------------------",  //
                     "    2026-01-01    2026-03-31"}));
}

TEST(Chart, FitsIntoItsWidth) {
    std::mt19937_64 random(2);
    for (std::size_t width = 0; width <= 160; width += 1 + width / 40)
        for (const std::size_t days : {1, 2, 3, 21, 22, 23, 27, 28, 30, 67, 68, 69, 70, 90, 365, 3653})
            for (const double scale : {1.0, 40.0, 9999.0, 1e5, 1e6, 9.2e18}) {
                std::vector<double> series;
                for (std::size_t i = 0; i < days; ++i)
                    series.push_back(std::uniform_real_distribution<>(0, scale)(random));
                for (const Style style : {Style::blocks, Style::ascii}) {
                    const Lines lines = draw(series, width, 5, kFirst, days == 1 ? kFirst : kLast, style);
                    ASSERT_EQ(lines.size(), 7u);
                    std::size_t widest = 0;
                    for (const std::string& line : lines) {
                        widest = std::max(widest, width_of(line));
                        EXPECT_NE(line.back(), ' ');
                    }
                    const std::size_t room = std::max(width, kLeastWidth);
                    EXPECT_LE(widest, room) << days << " days, up to " << scale;
                    // Many days use it all.
                    if (days >= room) {
                        EXPECT_EQ(widest, room) << days << " days, up to " << scale;
                    }
                }
            }
}

}  // namespace
}  // namespace mau::chart
