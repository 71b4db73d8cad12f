// Reads the history by chunks of users and blocks of days. Only one block of one chunk is in memory, for any
// number of users and days.
//
// Bitmaps are read through their index, by chunk and day. Visits that are not folded yet are read once,
// sorted in the same order, and merged. Both use the snapshot of the caller's statement. Users who are not
// asked for are masked out while bitmaps are decoded.
#pragma once

#include "bitmap/algebra.hpp"
#include "rules/platform.hpp"

#include "config/config.hpp"

namespace mau::history {

/// The users that a question includes, by their accounts as known now. `counted`: neither guest nor support,
/// as for the cohort.
enum class Kind { counted, everybody, guest, support, bot, deactivated, unregistered, not_guest };
/// The kind of this name in SQL. Errors: 22023.
Kind kind_called(std::string_view name);

/// The filter of a question.
struct Question {
    std::optional<std::string> service;  // nothing: all
    std::optional<Platform> platform;    // nothing: any
    Kind kind = Kind::counted;
};

/// The first and the last day that the history has, folded or not; nothing if it is empty.
std::optional<DayRange> extent(const Config& config);

/// The services that have history.
std::vector<std::string> services();

/// The largest number of new days in a block: 10 MB. Process it quickly: interrupts are checked between
/// blocks.
inline constexpr Day kBlock = 1200;

/// The layout of days in rows.
struct Layout {
    DayRange days{};
    Day overlap = 0;           // the number of days at the end of a block that are also the first of the next
    bool before = false;       // also the users who were active on any day before the first row
    bool by_platform = false;  // each platform in rows of its own
    std::vector<std::uint32_t>
        row_of{};  // the row of each day, where days share rows: then all are one block
};

/// The visits that are not folded yet, in the order of chunk and day.
class Unfolded {
  public:
    struct Visit {
        std::int32_t chunk;
        Day day;
        std::uint16_t position;
        int platform;
    };

    Unfolded(const Question& question, const Layout& layout);
    /// The next visit, or null after the last; the same one until `pop`.
    const Visit* head();
    void pop() { ++row_; }
    void close() { cursor_.close(); }

  private:
    pg::Cursor cursor_;
    pg::Rows batch_;
    std::uint64_t row_ = 0;
    Visit visit_{};
};

/// Reads one chunk after the other. Needs SPI, whose memory it uses; `close` it when done.
class Chunks {
  public:
    Chunks(const Config& config, const Question& question, Layout layout);

    /// Goes to the next chunk that has any history, and reads its first block; returns false after the last.
    bool next();
    /// Goes to a certain chunk, one after those that were read.
    void read(std::int32_t chunk);
    /// Reads the chunk's next block of days; returns false after the last.
    bool next_block();
    void close();

    std::int32_t chunk() const { return chunk_; }
    /// The day of row 0.
    Day first_day() const { return block_.first; }
    /// The days of the block; by platform, those of one.
    bitmap::BitRows days(Platform platform = Platform::unknown) const;
    /// The users who were active before the first row.
    const bitmap::Bits& before() const { return *before_; }
    /// The users of the chunk that the question includes; null: all.
    const bitmap::Bits* asked_for() const { return keep_; }

  private:
    std::size_t size() const;
    bitmap::Bits* row_for(Day day, int platform);
    void clear_rows(std::size_t from);
    void slide();
    void load_mask();
    void load(DayRange days);
    void load_bitmaps(DayRange days);
    void load_visits(Day last);
    void report_progress();

    const Question question_;
    const Layout layout_;
    std::size_t rows_ = 0;  // that there is room for, of each platform
    DayRange block_{};      // the days that are in them
    bitmap::Bits* bits_ = nullptr;
    char* used_ = nullptr;  // which of them are not empty
    bitmap::Bits* before_ = nullptr;
    bitmap::Bits* mask_ = nullptr;
    const bitmap::Bits* keep_ = nullptr;
    void* memory_ = nullptr;
    std::int32_t chunk_ = -1;
    std::int32_t last_chunk_ = -1;
    TimestampTz reported_ = 0;
    pg::IndexWalk bitmaps_;
    pg::Scratch scratch_;
    Unfolded visits_;
};

/// Removes from `users`, of a chunk, the users whose account is not of the service in the question.
void keep_accounts_of_service(const Question& question, std::int32_t chunk, bitmap::Bits& users,
                              pg::Scratch& scratch);

/// The chunk of a user, and the position in it, are those of history/history.hpp.
std::int64_t first_user_of(std::int32_t chunk);

/// Working space for the algebra, in the current memory context.
bitmap::BitRows scratch(std::size_t rows);

/// Looks for interrupts: between two calls of the algebra.
inline void check_for_interrupts() {
    pg::guard([] { CHECK_FOR_INTERRUPTS(); });
}

}  // namespace mau::history
