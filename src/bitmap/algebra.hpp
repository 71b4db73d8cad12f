#pragma once

// Questions about the day bitmaps of many users, answered exactly.
//
// They are asked chunk outermost: decode the days of one chunk into `BitRows`, let the
// algebra add that chunk's figures to the caller's arrays, clear, next chunk. A year of rows takes 3 MB and
// the scratch rows beside it stay under 1 MB for windows of 30 days, for any population. No call allocates,
// and each takes a few milliseconds for a year of one chunk, so a caller that looks for interrupts
// between calls is cancelled in time.
//
// In the algebra a day is a row number: row 0 is the first day the caller decoded, and days before it (or
// after the last) count as empty. [from, to) are the rows asked about; give as many rows before `from` as the
// windows reach back. All functions throw std::invalid_argument for a range outside the rows, a window of 0
// days or too little scratch.

#include "base/pure.hpp"

#include "bitmap/bitmap.hpp"

#include <cstddef>
#include <cstdint>

namespace mau::bitmap {

/// The days of one chunk, a row each, or working space: a view of memory that the caller owns, aligned to 8
/// bytes at least (64 is faster). It has no destructor, so it may live in a frame that calls the backend.
class BitRows {
  public:
    static constexpr std::size_t bytes(std::size_t rows) { return rows * sizeof(Bits); }

    BitRows(void* memory, std::size_t rows) : rows_(static_cast<Bits*>(memory)), size_(rows) {}

    std::size_t size() const { return size_; }
    Bits& operator[](std::size_t row) const { return rows_[row]; }
    void clear() const;

  private:
    Bits* rows_;
    std::size_t size_;
};

/// The users who were active on at least one of the rows [from, to).
void unite(const BitRows& days, std::size_t from, std::size_t to, Bits& out);

/// Adds to counts[0 .. to - from) how many users were active within the `window` days that end with each row,
/// on at least `min_days` of them. DAU, WAU and MAU are windows of 1, 7 and 30.
void rolling(const BitRows& days, std::size_t from, std::size_t to, std::size_t window, std::size_t min_days,
             const BitRows& scratch, std::int64_t* counts);
std::size_t rolling_scratch(std::size_t window, std::size_t min_days);

/// The active users of a day's window against those of the window just before it, which ends `window` days
/// earlier:
///     active now    = arrived + retained + resurrected
///     active before = retained + churned
struct Growth {
    std::int64_t arrived;      // active now, and never before this window
    std::int64_t retained;     // in both
    std::int64_t resurrected;  // active now, not in the window before, but some time earlier
    std::int64_t churned;      // active in the window before and no longer

    std::int64_t active() const { return arrived + retained + resurrected; }
};

/// Adds each row's growth to growth[0 .. to - from). Needs 2 * window - 1 rows before `from`; `ever`, if
/// given, holds the users who were active before row 0. With min_days > 1, "active" in a window is on at
/// least so many of its days; "never" stays never.
void grow(const BitRows& days, std::size_t from, std::size_t to, std::size_t window, std::size_t min_days,
          const Bits* ever, const BitRows& scratch, Growth* growth);
std::size_t grow_scratch(std::size_t window, std::size_t min_days);

/// Adds to counts[0 .. to - from) how many users were active on that row for the first time ever. `ever`
/// holds the users who were active before `from`; [from, to) is added to it.
void first_seen(const BitRows& days, std::size_t from, std::size_t to, Bits& ever, std::int64_t* counts);

/// The days around day t that r30v2 reads, t - back to t + ahead, and how far two visits have to lie apart.
/// The default is Synapse's at any time of day t but its first second, where ahead is 0 (see r30v2_days
/// in calendar).
struct Span {
    std::size_t back = 59;
    std::size_t ahead = 1;
    std::size_t apart = 31;  // "more than 30 days"
};

/// Adds to counts[0 .. to - from) how many users have two active days at least `apart` days apart in the span
/// of each row.
void returning(const BitRows& days, std::size_t from, std::size_t to, const Span& span,
               const BitRows& scratch, std::int64_t* counts);
std::size_t returning_scratch(const Span& span);

/// The number of days on which each user of a chunk was active, over any number of days: add the rows of one
/// block after the other, then ask. `scratch` has days_active_scratch(most) rows, and no more than `most` may
/// be added between two calls of clear.
class DayCounts {
  public:
    DayCounts(const BitRows& scratch, std::size_t most);
    void clear() const;
    void add(const BitRows& days, std::size_t from, std::size_t to) const;
    /// Adds to counts[k] how many users were active on exactly k days, for k = 1 .. most. counts[0] stays as
    /// it is, because users who were never active are not known here.
    void histogram(std::int64_t* counts) const;
    /// Sets `out` to the users who were active on at least min_days days; returns their number.
    std::uint32_t at_least(std::size_t min_days, Bits& out) const;

  private:
    BitRows scratch_;
    std::size_t most_;
};
std::size_t days_active_scratch(std::size_t most);

/// The users who were active on at least min_days of the rows [from, to); returns their number.
std::uint32_t active_at_least(const BitRows& days, std::size_t from, std::size_t to, std::size_t min_days,
                              const BitRows& scratch, Bits& out);

/// Adds to counts[c * periods.size() + p] how many users of cohort c were active in period p. A cohort costs
/// only as much as the span of user numbers it covers.
void retention(const BitRows& cohorts, const BitRows& periods, std::int64_t* counts);

}  // namespace mau::bitmap
