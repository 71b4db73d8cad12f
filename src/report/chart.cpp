#define MAU_PURE_SOURCE
#include "report/chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace mau::chart {

namespace {

constexpr int kEighths = 8;
constexpr std::size_t kWidest = 3;  // columns of one value

struct Pen {
    const char* level[kEighths + 1];
    const char *wall, *corner, *floor;
};
constexpr Pen kBlocks = {{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}, "│", "└", "─"};
constexpr Pen kAscii = {{" ", ".", ".", ":", ":", ":", "#", "#", "#"}, "|", "+", "-"};

std::string formatted(int digits, double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

/// The mean of the values that are not NaN; NaN where there are none.
double mean(const std::vector<double>& series, std::size_t from, std::size_t to) {
    double sum = 0;
    std::size_t values = 0;
    for (std::size_t i = from; i < to; ++i)
        if (!std::isnan(series[i])) sum += series[i], ++values;
    return values ? sum / static_cast<double>(values) : std::nan("");
}

/// The series as columns: means of neighbours, or values repeated.
std::vector<double> columns_of(const std::vector<double>& series, std::size_t room) {
    std::vector<double> columns;
    if (series.size() <= room) {
        const std::size_t each = std::min(kWidest, room / series.size());
        for (const double value : series) columns.insert(columns.end(), each, value);
        return columns;
    }
    for (std::size_t c = 0; c < room; ++c)
        columns.push_back(mean(series, c * series.size() / room, (c + 1) * series.size() / room));
    return columns;
}

/// The height of a column in eighths of a line; at least one for a value above 0.
long eighths_of(double value, double top, std::size_t height) {
    if (!(value > 0)) return 0;
    return std::max(1L, std::lround(value / top * static_cast<double>(height * kEighths)));
}

void trim(std::string& line) {
    line.erase(line.find_last_not_of(' ') + 1);
}

}  // namespace

std::string label(double value) {
    const auto three_digits = [](double v) { return formatted(v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v); };
    if (value < 9999.5) return value == std::floor(value) ? formatted(0, value) : three_digits(value);
    for (const char unit : {'k', 'M', 'G', 'T', 'P'}) {
        value /= 1000;
        if (value < 999.5) return three_digits(value) + unit;
    }
    return three_digits(value / 1000) + 'E';
}

std::vector<std::string> draw(const std::vector<double>& series, std::size_t width, std::size_t height,
                              const std::string& first, const std::string& last, Style style) {
    std::vector<std::string> lines;
    if (series.empty() || height == 0) return lines;
    const Pen& pen = style == Style::blocks ? kBlocks : kAscii;

    // The columns take the width that the label leaves, and the label shows the highest column.
    constexpr std::size_t kAxis = 2;
    std::vector<double> columns;
    double top = 0;
    std::string high;
    std::size_t margin = 0;
    do {
        ++margin;
        columns = columns_of(series, std::max(width, kLeastWidth) - margin - kAxis);
        top = 0;
        for (const double column : columns)
            if (column > top) top = column;
        high = label(top);
    } while (high.size() > margin);

    for (std::size_t line = height; line-- > 0;) {
        const std::string text = line + 1 == height && top > 0 ? high : line == 0 ? "0" : "";
        std::string drawn = std::string(margin - text.size(), ' ') + text + " " + pen.wall;
        for (const double column : columns) {
            const long filled = eighths_of(column, top, height) - static_cast<long>(line) * kEighths;
            drawn += pen.level[std::clamp(filled, 0L, static_cast<long>(kEighths))];
        }
        trim(drawn);
        lines.push_back(drawn);
    }
    std::string axis = std::string(margin + 1, ' ') + pen.corner;
    for (std::size_t i = 0; i < columns.size(); ++i) axis += pen.floor;
    lines.push_back(axis);
    std::string days = std::string(margin + kAxis, ' ') + first;
    if (first != last) {
        const std::size_t end = margin + kAxis + columns.size();
        days.resize(std::max(days.size() + 1, end > last.size() ? end - last.size() : 0), ' ');
        days += last;
    }
    lines.push_back(days);
    return lines;
}

}  // namespace mau::chart
