#pragma once

// bitmap: codec and algebra of day bitmaps.
//
// A chunk is the 65 536 users with the same user_no >> 16; a day bitmap is the set of them who were active on
// one UTC day. On disk it is the portable Roaring format with exactly one container, whose key is the low 16
// bits of the chunk's number, so that any Roaring library reads it. In memory it is `Bits`, 8 KB, whoever is
// in it.
//
// Questions about many users are asked chunk outermost: decode the days of one chunk into `Rows`, let the
// algebra add that chunk's figures to the caller's arrays, clear, next chunk. A year of rows takes 3 MB and
// the scratch rows beside it stay under 1 MB for windows of 30 days, whatever the population. No call
// allocates, and each takes a few milliseconds for a year of one chunk, so a caller that looks for interrupts
// between calls is cancelled in time.
//
// In the algebra a day is a row number: row 0 is the first day the caller decoded, and days before it (or
// after the last) count as empty. [from, to) are the rows asked about; give as many rows before `from` as the
// windows reach back. All functions throw std::invalid_argument for a range outside the rows, a window of 0
// days or too little scratch.

#include "pure.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace mau::bitmap {

inline constexpr std::size_t kUsers = 65536;
inline constexpr std::size_t kWords = kUsers / 64;
inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kBitsetBytes = kUsers / 8;
inline constexpr std::size_t kArrayLimit = 4096;  // more users than this are stored as a bitset
inline constexpr std::size_t kMaxEncoded = kHeaderBytes + kBitsetBytes;

/// A set of users of one chunk: bit u % 64 of word u / 64 is user u. Left uninitialised unless written `Bits
/// b{}`.
struct Bits {
    std::uint64_t word[kWords];

    void clear();
    void fill();
    void set(std::uint16_t user) { word[user >> 6] |= std::uint64_t{1} << (user & 63); }
    void reset(std::uint16_t user) { word[user >> 6] &= ~(std::uint64_t{1} << (user & 63)); }
    bool test(std::uint16_t user) const { return word[user >> 6] >> (user & 63) & 1; }

    Bits& operator|=(const Bits& other);
    Bits& operator&=(const Bits& other);
    Bits& operator-=(const Bits& other);  // and not

    std::uint32_t count() const;

    /// Calls f(uint16_t user) for every user in the set, in ascending order.
    template <class F>
    void for_each(F&& f) const {
        for (std::size_t w = 0; w < kWords; ++w)
            for (std::uint64_t rest = word[w]; rest != 0; rest &= rest - 1)
                f(static_cast<std::uint16_t>(w * 64 + static_cast<unsigned>(__builtin_ctzll(rest))));
    }
};

// ----------------------------------------------------------------------------------------------------------------
// codec

/// The stored bytes are not what `encode` writes. The message says what is wrong; the caller knows which row
/// it was.
struct CorruptBitmap : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The Roaring key of a chunk.
constexpr std::uint16_t key_of(std::uint64_t chunk) {
    return static_cast<std::uint16_t>(chunk & 0xffff);
}

/// How many bytes a set of so many users takes when encoded; 0 for the empty set, which has no encoding (no
/// row).
constexpr std::size_t encoded_size(std::size_t users) {
    if (users == 0) return 0;
    return kHeaderBytes + (users <= kArrayLimit ? users * 2 : kBitsetBytes);
}

/// Writes a set in its one canonical form and answers its length in bytes, at most kMaxEncoded; 0 for the
/// empty set.
std::size_t encode(const Bits& users, std::uint16_t key, std::uint8_t* out);

/// Adds the users of an encoded set to `into`, only those that are also in `keep` if it is given, and answers
/// how many users the encoded set has (kept or not). Throws CorruptBitmap, with `into` untouched, unless the
/// bytes are exactly what encode() writes for that key.
std::uint32_t decode(const void* data, std::size_t size, std::uint16_t key, Bits& into,
                     const Bits* keep = nullptr);

// --------------------------------------------------------------------------------------------------------------
// algebra

/// The days of one chunk, a row each, or working space: a view of memory that somebody else owns and aligned
/// to 8 bytes at least (64 is faster). It has no destructor, so it may live in a frame that calls the
/// backend.
class Rows {
  public:
    static constexpr std::size_t bytes(std::size_t rows) { return rows * sizeof(Bits); }

    Rows(void* memory, std::size_t rows) : rows_(static_cast<Bits*>(memory)), size_(rows) {}

    std::size_t size() const { return size_; }
    Bits& operator[](std::size_t row) const { return rows_[row]; }
    void clear() const;

  private:
    Bits* rows_;
    std::size_t size_;
};

/// Who was active on at least one of the rows [from, to).
void unite(const Rows& days, std::size_t from, std::size_t to, Bits& out);

/// Adds to counts[0 .. to - from) how many users were active within the `window` days that end with each row,
/// on at least `min_days` of them. DAU, WAU and MAU are windows of 1, 7 and 30.
void rolling(const Rows& days, std::size_t from, std::size_t to, std::size_t window, std::size_t min_days,
             const Rows& scratch, std::int64_t* counts);
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
/// given, holds who was active before row 0. With min_days > 1, "active" in a window is on at least so many
/// of its days; "never" stays never.
void grow(const Rows& days, std::size_t from, std::size_t to, std::size_t window, std::size_t min_days,
          const Bits* ever, const Rows& scratch, Growth* growth);
std::size_t grow_scratch(std::size_t window, std::size_t min_days);

/// Adds to counts[0 .. to - from) how many users were active on that row for the first time ever. `ever`
/// holds who was active before `from` and has [from, to) added to it.
void first_seen(const Rows& days, std::size_t from, std::size_t to, Bits& ever, std::int64_t* counts);

/// Which days r30v2 looks at around day t, t - back to t + ahead, and how far two visits have to lie apart.
/// The default is the reference's at any time of day t but its first second, where ahead is 0 (see r30v2_days
/// in calendar).
struct Span {
    std::size_t back = 59;
    std::size_t ahead = 1;
    std::size_t apart = 31;  // "more than 30 days"
};

/// Adds to counts[0 .. to - from) how many users have two active days at least `apart` days apart in the span
/// of each row.
void returning(const Rows& days, std::size_t from, std::size_t to, const Span& span, const Rows& scratch,
               std::int64_t* counts);
std::size_t returning_scratch(const Span& span);

/// Adds to counts[k] how many users were active on exactly k of the rows [from, to), for k = 1 .. to - from.
/// counts[0] is left alone: who was never active is not known here.
void days_active(const Rows& days, std::size_t from, std::size_t to, const Rows& scratch,
                 std::int64_t* counts);

/// Who was active on at least min_days of the rows [from, to); answers how many they are.
std::uint32_t active_at_least(const Rows& days, std::size_t from, std::size_t to, std::size_t min_days,
                              const Rows& scratch, Bits& out);
/// The scratch of days_active and active_at_least for so many rows.
std::size_t days_active_scratch(std::size_t rows);

/// Adds to counts[c * periods.size() + p] how many users of cohort c were active in period p. A cohort costs
/// only as much as the span of user numbers it covers.
void retention(const Rows& cohorts, const Rows& periods, std::int64_t* counts);

}  // namespace mau::bitmap
