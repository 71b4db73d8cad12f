// Questions about the days of one chunk of users, for the aggregates of the warehouse: the days come one by
// one, in any order, from bitmaps. The same algebra answers them as the history's own questions.
#pragma once

#include "base/pure.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bitmap/algebra.hpp"
#include "rules/calendar.hpp"

namespace mau::history {

/// The question of an aggregate. It has no destructor, so that it can be part of an aggregate's state.
struct ChunkQuestion {
    enum class Figure { series, growth, r30v2, retention };

    Figure figure = Figure::series;
    DayRange days{};              // that are asked about
    std::size_t window = 30;      // days, of series and growth
    Period unit = Period::month;  // of retention

    bool operator==(const ChunkQuestion& other) const {
        return figure == other.figure && days.first == other.days.first && days.last == other.days.last &&
               window == other.window && unit == other.unit;
    }

    /// The number of rows that the question needs; one of days each, for retention of periods.
    std::size_t rows() const;
    /// The row for the users who were active on a day, or nothing if the question does not need it. A day
    /// before all others is `kFirstDay - 1` or less.
    std::optional<std::size_t> row_of(Day day) const;
    /// Of retention: the row for the users who registered on a day.
    std::optional<std::size_t> signup_row_of(Day day) const;
    /// The number of rows of working space that `answer` needs.
    std::size_t scratch() const;
    /// The dimensions of the answer: one figure for each day; growth: four (new, retained, resurrected,
    /// churned); retention: for each cohort its size and its users in each period.
    std::vector<int> shape() const;
    std::vector<std::int64_t> answer(const bitmap::BitRows& rows, const bitmap::BitRows& scratch) const;

  private:
    std::size_t count() const { return static_cast<std::size_t>(days.last - days.first + 1); }
    std::size_t back() const;
    std::size_t ahead() const { return figure == Figure::r30v2 ? 1 : 0; }
    std::size_t before() const { return figure == Figure::growth ? 1 : 0; }  // the row of all earlier days
    std::size_t periods() const;
    std::vector<std::int64_t> count_retention(const bitmap::BitRows& rows) const;
};

/// The bitmaps of one chunk, decoded into rows of memory that the caller owns.
class ChunkRows {
  public:
    /// `memory` has one row more than the question, for the users who are left out.
    explicit ChunkRows(const bitmap::BitRows& memory);

    /// Adds a stored bitmap to a row. Errors: 22023 if it is of another chunk than the others, XX001 if it is
    /// corrupt; `day` names it.
    void add(std::size_t row, const void* data, std::size_t size, Day day);
    /// Adds a stored bitmap to the users who are left out.
    void leave_out(const void* data, std::size_t size);
    /// The rows, without the users who are left out.
    bitmap::BitRows rows() const;

  private:
    void decode(const void* data, std::size_t size, bitmap::Bits& into, std::optional<Day> day);

    bitmap::BitRows memory_;
    std::int32_t key_ = -1;
    bool leaves_out_ = false;
};

}  // namespace mau::history
