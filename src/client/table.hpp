// Rows for people and programs: an aligned table, CSV or JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace mau::client {

enum class Format { kTable, kCsv, kJson };

struct Column {
    std::string name;
    bool is_number = false;  ///< Aligned right; without quotes in JSON.
};

/// A cell has the text that PostgreSQL gave, or none for NULL.
using Cell = std::optional<std::string>;

struct Table {
    std::vector<Column> columns;
    std::vector<std::vector<Cell>> rows;

    /// The index of a column, which must exist.
    std::size_t column(const std::string& name) const;
    /// A cell of the first row, which must exist.
    const Cell& first(const std::string& name) const { return rows.at(0).at(column(name)); }
};

/// The text of a table, with a line feed at the end. JSON is an array of objects; CSV follows RFC 4180 with a
/// header, and NULL is empty there.
std::string format(const Table& table, Format format);

}  // namespace mau::client
