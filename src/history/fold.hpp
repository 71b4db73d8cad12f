// Folding moves visits into bitmaps in one transaction, so that a visit is always in one of the two
// (history/history.hpp).
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "history/history.hpp"

namespace mau::bitmap {
struct Bits;
}

namespace mau::history {

/// The name of the task fold. Take its lock before a Folder is made; it is held to the end of the
/// transaction.
inline constexpr const char* kFoldTask = "fold";

/// The first day that history_retention keeps at an instant.
Day first_kept_day(Instant at);

/// Moves visits into bitmaps. Visits before the first kept day go into the bitmap of day -infinity.
class Folder {
  public:
    Folder(const Config& config, Day first_kept);

    /// Adds a visit; writes to the table when enough are collected.
    void add(std::int64_t user_no, Day day, Platform platform, std::string_view service);
    /// Writes all collected visits.
    void flush();
    /// Moves at most `max_rows` rows of mau.visits; returns their number.
    std::int64_t take_visits(std::int64_t max_rows);
    /// Unites bitmaps of days before the first kept day into that of day -infinity; stops after about
    /// `max_rows` bitmaps, and returns their number.
    std::int64_t purge(std::int64_t max_rows);

    std::int64_t marked = 0;   // visits that were not in a bitmap before
    std::int64_t rows = 0;     // bitmaps that were written
    std::int64_t skipped = 0;  // rows of mau.visits that are invalid

  private:
    /// Sorted by two numbers, which takes a third of the time that comparing the fields does.
    struct PackedVisit {
        std::uint64_t chunk_and_day;
        std::uint32_t service;
        std::uint16_t platform, position;

        std::uint64_t rest() const {
            return std::uint64_t{service} << 32 | std::uint64_t{platform} << 16 | position;
        }
        bool same_bitmap(const PackedVisit& other) const {
            return chunk_and_day == other.chunk_and_day && service == other.service &&
                   platform == other.platform;
        }
        std::int32_t chunk() const { return static_cast<std::int32_t>(chunk_and_day >> 32); }
        Day day() const { return static_cast<Day>(static_cast<std::uint32_t>(chunk_and_day) ^ 0x80000000U); }
    };
    PackedVisit visit(std::int64_t user_no, Day day, int platform, std::uint32_t service);
    std::uint32_t number_of(std::string_view service);
    std::int64_t take_batch(std::int64_t limit);
    std::int64_t purge_some(std::int64_t limit);
    void open();
    void merge(std::int32_t chunk, Day day, std::uint32_t service, int platform, const bitmap::Bits& users);
    void close_and_write();

    const Config& config_;
    const Day first_kept_;
    std::deque<std::string> services_;                   // a deque: views of them stay good
    std::map<std::string_view, std::uint32_t> numbers_;  // of services, by name
    std::vector<PackedVisit> visits_;
    Day purged_until_ = kBefore;              // the last day that went into the day -infinity,
    TimestampTz purged_change_ = DT_NOBEGIN;  // and the last change of such a day

    // Bitmaps that are not written yet.
    std::vector<std::int64_t> chunks_, days_, platforms_;
    std::vector<std::string_view> row_services_;
    std::vector<std::uint8_t> bytes_;
    std::vector<std::size_t> ends_;
    pg::IndexWalk walk_;
    pg::Scratch scratch_;
};

}  // namespace mau::history
