#include "client/table.hpp"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace mau::client {
namespace {

/// Code points, which are columns on a terminal for the texts that occur here.
std::size_t width(const std::string& text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string aligned(const Table& table) {
    std::vector<std::size_t> widths;
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
        widths.push_back(width(table.columns[c].name));
        for (const auto& row : table.rows) widths[c] = std::max(widths[c], width(row[c].value_or("")));
    }
    std::string text;
    const auto add_line = [&](const auto& cell_of) {
        std::string line;
        for (std::size_t c = 0; c < table.columns.size(); ++c) {
            const std::string cell = cell_of(c);
            const std::string padding(widths[c] - width(cell), ' ');
            line += (c ? "  " : "") + (table.columns[c].is_number ? padding + cell : cell + padding);
        }
        text += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
    };
    add_line([&](std::size_t c) { return table.columns[c].name; });
    for (const auto& row : table.rows) {
        add_line([&](std::size_t c) { return row[c].value_or(""); });
    }
    return text;
}

std::string csv_cell(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + '"';
}

std::string csv(const Table& table) {
    std::string text;
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
        text += (c ? "," : "") + csv_cell(table.columns[c].name);
    }
    text += "\r\n";
    for (const auto& row : table.rows) {
        for (std::size_t c = 0; c < row.size(); ++c) text += (c ? "," : "") + csv_cell(row[c].value_or(""));
        text += "\r\n";
    }
    return text;
}

nlohmann::ordered_json json_value(const Column& column, const Cell& cell) {
    if (!cell) return nullptr;
    if (column.is_number) {
        // NaN and infinities are no JSON.
        const auto number = nlohmann::ordered_json::parse(*cell, nullptr, /*allow_exceptions=*/false);
        return number.is_number() ? number : nlohmann::ordered_json(nullptr);
    }
    return *cell;
}

std::string json(const Table& table) {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& row : table.rows) {
        auto object = nlohmann::ordered_json::object();
        for (std::size_t c = 0; c < row.size(); ++c) {
            object[table.columns[c].name] = json_value(table.columns[c], row[c]);
        }
        rows.push_back(object);
    }
    return rows.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
}

}  // namespace

std::size_t Table::column(const std::string& name) const {
    for (std::size_t c = 0; c < columns.size(); ++c) {
        if (columns[c].name == name) return c;
    }
    throw std::logic_error("no column " + name);
}

std::string format(const Table& table, Format format) {
    switch (format) {
        case Format::kCsv:
            return csv(table);
        case Format::kJson:
            return json(table);
        case Format::kTable:
            break;
    }
    return aligned(table);
}

}  // namespace mau::client
