#define MAU_PURE_SOURCE
#include "chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace mau::chart {

namespace {

constexpr int kEighths = 8;
const char* const kBlocks[kEighths + 1] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

std::string formatted(const char* format, double value) {
    char text[32];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

/// The series as columns: means of neighbours, or values repeated.
std::vector<double> columns_of(const std::vector<double>& series, std::size_t width) {
    std::vector<double> columns;
    if (series.size() <= width) {
        const std::size_t each = width / series.size();
        for (const double value : series) columns.insert(columns.end(), each, value);
        return columns;
    }
    for (std::size_t c = 0; c < width; ++c) {
        const std::size_t from = c * series.size() / width, to = (c + 1) * series.size() / width;
        double sum = 0;
        for (std::size_t i = from; i < to; ++i) sum += series[i];
        columns.push_back(sum / static_cast<double>(to - from));
    }
    return columns;
}

void trim(std::string& line) {
    line.erase(line.find_last_not_of(' ') + 1);
}

}  // namespace

std::string label(double value) {
    if (value >= 1e9) return formatted("%.3g", value);
    if (value >= 999500) return formatted("%.3gM", value / 1e6);
    if (value >= 10000) return formatted("%.3gk", value / 1e3);
    if (value != std::floor(value)) return formatted("%.2f", value);
    return formatted("%.0f", value);
}

std::vector<std::string> draw(const std::vector<double>& series, std::size_t width, std::size_t height,
                              const std::string& first, const std::string& last) {
    std::vector<std::string> lines;
    if (series.empty() || width == 0 || height == 0) return lines;
    std::vector<double> columns = columns_of(series, width);
    for (double& column : columns) column = std::max(0.0, column);
    const double top = *std::max_element(columns.begin(), columns.end());
    const std::string high = label(top), low = "0";
    const std::size_t margin = std::max(high.size(), low.size());

    for (std::size_t line = height; line-- > 0;) {
        const std::string& text = line + 1 == height && top > 0 ? high : line == 0 ? low : std::string();
        std::string drawn = std::string(margin - text.size(), ' ') + text + " │";
        for (const double column : columns) {
            const double eighths = top > 0 ? column / top * static_cast<double>(height * kEighths) : 0;
            // Whatever is not nothing shows.
            double filled = std::round(eighths) - static_cast<double>(line * kEighths);
            if (line == 0 && column > 0) filled = std::max(filled, 1.0);
            drawn += kBlocks[static_cast<int>(std::clamp(filled, 0.0, static_cast<double>(kEighths)))];
        }
        trim(drawn);
        lines.push_back(drawn);
    }
    std::string axis = std::string(margin, ' ') + " └";
    for (std::size_t i = 0; i < columns.size(); ++i) axis += "─";
    lines.push_back(axis);
    std::string days = std::string(margin + 2, ' ') + first;
    if (first != last) {
        const std::size_t end = margin + 2 + columns.size();
        days.resize(std::max(days.size() + 1, end > last.size() ? end - last.size() : 0), ' ');
        days += last;
    }
    lines.push_back(days);
    return lines;
}

}  // namespace mau::chart
