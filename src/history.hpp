// The history: who was active on which UTC day, on what client.
//
// A sighting marks its user, day and platform once, as a row of mau.visits: an append-only table without a
// unique constraint, so that nobody waits for anybody. fold moves those rows into mau.active_days, a bitmap
// per chunk of 65 536 users, day, service and platform, in one transaction: at every moment a visit is in the
// one or in the other, and one that is in both, or twice, is one all the same. Questions read both
// (history_reader.hpp), so they are exact whether or not fold came by.
//
// What history_retention purges is united into the day '-infinity': who was active before the days that are
// kept. So nobody is taken for new who is not.
#pragma once

#include "platform.hpp"

#include "directory.hpp"

namespace mau::history {

/// The day that stands for all days before those that are kept.
inline constexpr Day kBefore = INT32_MIN;

/// A day as PostgreSQL's date, and back.
DateADT to_date_datum(Day day);
Day from_date_datum(DateADT date);

/// The chunk of a user, and the place in it.
inline std::int32_t chunk_of(std::int64_t user_no) {
    return static_cast<std::int32_t>(user_no >> 16);
}
inline std::uint16_t place_of(std::int64_t user_no) {
    return static_cast<std::uint16_t>(user_no & 0xFFFF);
}

/// Tells that a bitmap cannot be read: XX001, which names the row.
[[noreturn]] void corrupt(std::string_view service, int platform, Day day, std::int32_t chunk,
                          const char* what);

// --- Marking visits
// ----------------------------------------------------------------------------------------------

/// Looks whether a visit is marked already. As with KeyedTable, no error of ours may be thrown past `close`.
class Marks {
  public:
    void open(const World& world);
    /// Whether it is in mau.visits or in a bitmap, committed or ours. One in flight elsewhere is not: it may
    /// be undone.
    bool has(std::int64_t user_no, Day day, Platform platform, std::string_view service);
    void close();

  private:
    pg::IndexWalk visits_, days_;
};

/// Whether visits can be looked at and written without waiting for an ALTER or TRUNCATE.
bool can_mark(const World& world);

/// Visits to be written: of users whose number is known, and of users by their id.
struct Visits {
    std::vector<std::int64_t> user_nos, days, platforms;
    std::vector<std::string_view> services;
    std::vector<std::string_view> user_ids, id_services;
    std::vector<std::int64_t> id_days, id_platforms;

    bool any() const { return !user_nos.empty() || !user_ids.empty(); }
    /// Writes them; users by id have a row in mau.users by now.
    void write() const;
};

}  // namespace mau::history
