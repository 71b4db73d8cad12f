#define MAU_PURE_SOURCE
#include "history/chunk_question.hpp"

#include <algorithm>
#include <string>

#include "base/error.hpp"

namespace mau::history {

std::size_t ChunkQuestion::back() const {
    switch (figure) {
        case Figure::series:
            return window - 1;
        case Figure::growth:
            return 2 * window - 1;
        case Figure::r30v2:
            return bitmap::Span().back;
        case Figure::retention:
            break;
    }
    return 0;
}

std::size_t ChunkQuestion::periods() const {
    return static_cast<std::size_t>(period_index(unit, days.last) - period_index(unit, days.first) + 1);
}

std::size_t ChunkQuestion::rows() const {
    if (figure == Figure::retention) return 2 * periods();
    return before() + back() + count() + ahead();
}

std::optional<std::size_t> ChunkQuestion::row_of(Day day) const {
    if (figure == Figure::retention) {
        if (day < kFirstDay) return std::nullopt;
        const std::int32_t period = period_index(unit, day) - period_index(unit, days.first);
        if (period < 0 || period >= static_cast<std::int32_t>(periods())) return std::nullopt;
        return static_cast<std::size_t>(period);
    }
    if (day > days.last + static_cast<Day>(ahead())) return std::nullopt;
    const Day first = days.first - static_cast<Day>(back());
    if (day >= first) return before() + static_cast<std::size_t>(day - first);
    return before() ? std::optional<std::size_t>(0) : std::nullopt;
}

std::optional<std::size_t> ChunkQuestion::signup_row_of(Day day) const {
    const auto row = row_of(day);
    return row ? std::optional(*row + periods()) : std::nullopt;
}

std::size_t ChunkQuestion::scratch() const {
    switch (figure) {
        case Figure::series:
            return bitmap::rolling_scratch(window, 1);
        case Figure::growth:
            return bitmap::grow_scratch(window, 1);
        case Figure::r30v2:
            return bitmap::returning_scratch(bitmap::Span());
        case Figure::retention:
            break;
    }
    return 0;
}

std::vector<int> ChunkQuestion::shape() const {
    if (figure == Figure::growth) return {static_cast<int>(count()), 4};
    if (figure != Figure::retention) return {static_cast<int>(count())};
    const int periods = static_cast<int>(this->periods());
    return {periods, periods + 1};
}

std::vector<std::int64_t> ChunkQuestion::answer(const bitmap::BitRows& rows,
                                                const bitmap::BitRows& scratch) const {
    if (figure == Figure::retention) return count_retention(rows);
    const bitmap::BitRows days(&rows[before()], rows.size() - before());
    const std::size_t from = back(), to = from + count();
    std::vector<std::int64_t> users(count(), 0);
    if (figure == Figure::series) {
        bitmap::rolling(days, from, to, window, 1, scratch, users.data());
    } else if (figure == Figure::r30v2) {
        bitmap::returning(days, from, to, bitmap::Span(), scratch, users.data());
    } else {
        std::vector<bitmap::Growth> growth(count(), bitmap::Growth{});
        bitmap::grow(days, from, to, window, 1, &rows[0], scratch, growth.data());
        users.clear();
        for (const bitmap::Growth& g : growth)
            users.insert(users.end(), {g.arrived, g.retained, g.resurrected, g.churned});
    }
    return users;
}

std::vector<std::int64_t> ChunkQuestion::count_retention(const bitmap::BitRows& rows) const {
    const std::size_t n = periods();
    const bitmap::BitRows periods(&rows[0], n), cohorts(&rows[n], n);
    std::vector<std::int64_t> active(n * n, 0), users;
    bitmap::retention(cohorts, periods, active.data());
    for (std::size_t c = 0; c < n; ++c) {
        users.push_back(cohorts[c].count());
        for (std::size_t p = 0; p < n; ++p) users.push_back(p < c ? 0 : active[c * n + p]);
    }
    return users;
}

ChunkRows::ChunkRows(const bitmap::BitRows& memory) : memory_(memory) {
    memory_.clear();
}

void ChunkRows::add(std::size_t row, const void* data, std::size_t size, Day day) {
    decode(data, size, memory_[row], day);
}

void ChunkRows::leave_out(const void* data, std::size_t size) {
    decode(data, size, memory_[memory_.size() - 1], std::nullopt);
    leaves_out_ = true;
}

bitmap::BitRows ChunkRows::rows() const {
    const bitmap::BitRows rows(&memory_[0], memory_.size() - 1);
    if (leaves_out_)
        for (std::size_t row = 0; row < rows.size(); ++row) rows[row] -= memory_[rows.size()];
    return rows;
}

void ChunkRows::decode(const void* data, std::size_t size, bitmap::Bits& into, std::optional<Day> day) {
    try {
        const std::uint16_t key = bitmap::stored_key(data, size);
        if (key_ >= 0 && key != key_)
            throw Error(sqlstate::invalid_parameter, "bitmaps of several chunks in one group",
                        "They are chunks " + std::to_string(key_) + " and " + std::to_string(key) + ".",
                        "Add GROUP BY server, chunk, and mau.add over the groups.");
        key_ = key;
        bitmap::decode(data, size, key, into);
    } catch (const bitmap::CorruptBitmap& error) {
        const std::string which = !day               ? "of users who are left out"
                                  : *day < kFirstDay ? "of day -infinity"
                                                     : "of day " + day_label(*day);
        throw Error(sqlstate::data_corrupted, "corrupt bitmap",
                    "A bitmap " + which + ": " + error.what() + ".",
                    "Copy the row again from the homeserver's database.");
    }
}

}  // namespace mau::history
