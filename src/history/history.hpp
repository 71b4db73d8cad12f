// The history: the users who were active on each UTC day, by client.
//
// A sighting marks its user, day and platform once, as a row of mau.visits: an append-only table without a
// unique constraint, so that no session waits for another. fold moves these rows into mau.active_days, one
// bitmap per chunk of 65 536 users, day, service and platform, in one transaction. A visit that is in both
// tables, or twice in one, counts once. Questions read both tables (history/reader.hpp), so they do not
// depend on fold.
//
// Days older than history_retention are united into the day '-infinity': the users active before the kept
// days. So a returning user does not count as a new one.
#pragma once

#include "rules/platform.hpp"

#include <algorithm>

#include "config/config.hpp"

namespace mau::history {

/// The day that stands for all days before the kept ones.
inline constexpr Day kBefore = INT32_MIN;

namespace visits {
enum Column { user_no, day, platform, service };  // of mau.visits
}

/// A day as PostgreSQL's date, and back.
DateADT to_date_datum(Day day);
Day from_date_datum(DateADT date);

/// The largest number of a user, as the constraints of mau.users and mau.visits have it.
inline constexpr std::int64_t kLastNumber = (std::int64_t{1} << 46) - 1;

/// The chunk of a user, and the position in it.
inline std::int32_t chunk_of(std::int64_t user_no) {
    return static_cast<std::int32_t>(user_no >> 16);
}
inline std::uint16_t position_of(std::int64_t user_no) {
    return static_cast<std::uint16_t>(user_no & 0xFFFF);
}

/// Raises XX001 for a bitmap that cannot be read, with the name of its row.
[[noreturn]] void corrupt(std::string_view service, int platform, Day day, std::int32_t chunk,
                          const char* what);

/// The marked visits of a user, as the column `visited` of mau.users and mau.monthly_active_users has them:
/// the newest day that has a mark, and the clients on it, a bit each. It is written with the mark, in one
/// transaction, so a sighting that is in it marks nothing. A sighting of an older day marks again: that does
/// no harm, and no bitmap has to be read.
class Visited {
  public:
    Visited() = default;
    explicit Visited(std::int32_t stored) : stored_(stored) {}
    std::int32_t stored() const { return stored_; }
    Day day() const { return stored_ >> kBits; }
    /// The clients marked on a day, as far as it is known here.
    unsigned clients(Day day) const { return day == this->day() ? clients() : 0; }
    bool has(Day day, Platform platform) const { return (clients(day) & bit(platform)) != 0; }
    void add(Day day, Platform platform) {
        if (day > this->day()) stored_ = day << kBits;
        if (day == this->day()) stored_ |= static_cast<std::int32_t>(bit(platform));
    }
    /// Unites the values of the user's two rows.
    void unite(Visited other) {
        if (other.day() == day())
            stored_ |= other.stored_;
        else
            stored_ = std::max(stored_, other.stored_);
    }

  private:
    static constexpr int kBits = 5;
    static_assert(kPlatforms <= kBits && kLastDay < INT32_MAX >> kBits);
    static unsigned bit(Platform platform) { return 1U << static_cast<int>(platform); }
    unsigned clients() const { return static_cast<unsigned>(stored_) & ((1U << kBits) - 1); }

    std::int32_t stored_ = 0;
};

/// Whether visits can be written without waiting for an ALTER or TRUNCATE.
bool can_mark(const Config& config);

/// A visit to be written; of a user without a number yet, by the id.
struct Visit {
    std::int64_t user_no;  // kNoNumber: look `user_id` up
    std::string_view user_id;
    Day day;
    Platform platform;
    std::string_view service;
};
inline constexpr std::int64_t kNoNumber = -1;

/// Writes visits; users without a number have a row in mau.users by now.
void mark(const std::vector<Visit>& visits);

}  // namespace mau::history
