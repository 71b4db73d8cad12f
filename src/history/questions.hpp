// The questions of the history, with values as answers; the SQL functions use them.
#pragma once

#include "bitmap/algebra.hpp"

#include "history/reader.hpp"

namespace mau::history {

/// The number of users who were active on at least `min_days` of the days. Errors: 22023 if the range has
/// fewer days, or days that were purged.
std::int64_t active(const Config& config, const Question& question, DayRange days, std::size_t min_days);

/// The numbers of users who were active on exactly 1, 2, … of the days; the first element is for 1. Errors:
/// 22023 for days that were purged.
std::vector<std::int64_t> days_active(const Config& config, const Question& question, DayRange days);

/// For each day the users active within the windows that end with it, one series for each window, on at least
/// `min_days` of a window's days if it is longer than a day; `arrived`, if given, gets the first visits ever.
/// Days that were purged are empty here.
std::vector<std::vector<std::int64_t>> series(const Config& config, const Question& question, DayRange days,
                                              const std::vector<std::size_t>& windows, std::size_t min_days,
                                              std::vector<std::int64_t>* arrived = nullptr);

/// The days of a range on which a window that reaches `back` days back and `ahead` ahead can hold any
/// history.
std::optional<DayRange> touched(const Config& config, DayRange days, Day back, Day ahead);

/// The rows that a body of `for_blocks` works on: rows [from, to) are days that are asked for, the first of
/// them `offset` days after the first of all.
struct Block {
    const Chunks& chunks;
    std::size_t from, to, offset;
    bitmap::BitRows days(Platform platform = Platform::unknown) const { return chunks.days(platform); }
};

/// Calls the body for each block of days of each chunk, with at least `back` rows before those that are asked
/// for and `ahead` behind them.
template <class Body>
void for_blocks(const Config& config, const Question& question, DayRange days, Layout layout, Day back,
                Day ahead, Body&& body) {
    const auto range = touched(config, days, back, ahead);
    if (!range) return;
    layout.days = {range->first - back, range->last + ahead};
    layout.overlap = back + ahead;
    Chunks chunks(config, question, layout);
    while (chunks.next()) {
        do {
            check_for_interrupts();
            body(Block{chunks, static_cast<std::size_t>(back),
                       chunks.days().size() - static_cast<std::size_t>(ahead),
                       static_cast<std::size_t>(chunks.first_day() + back - days.first)});
        } while (chunks.next_block());
    }
    chunks.close();
}

}  // namespace mau::history
