// Reading the history a chunk of users at a time: whatever the population, one chunk's days are in memory.
//
// Bitmaps and the visits that are not folded yet are read with the snapshot of the caller's statement,
// through the indexes in the order of chunk and day. Who is not asked for is masked out while the bitmaps are
// decoded.
#pragma once

#include "bitmap_algebra.hpp"
#include "platform.hpp"

#include "directory.hpp"

namespace mau::history {

/// Which users are asked for, by what is known of them now. `counted`: neither guest nor support, as for the
/// cohort.
enum class Kind { counted, everybody, guest, support, bot, deactivated, unregistered, not_guest };
/// The kind called so in SQL. Errors: 22023.
Kind kind_called(std::string_view name);

/// What is asked for.
struct Question {
    std::optional<std::string> service;  // nothing: all
    std::optional<Platform> platform;    // nothing: any
    Kind kind = Kind::counted;
};

/// The first and the last day that the history has, folded or not; nothing if it is empty.
std::optional<DayRange> extent(const World& world);

/// The services that have history.
std::vector<std::string> services();

/// How days are laid out in rows: row = row_of[day - first day], or the day's number where it is empty.
struct Layout {
    DayRange days;
    std::vector<std::uint32_t> row_of{};
    bool before = false;       // also who was active on any day before the first
    bool by_platform = false;  // each platform in rows of its own
};

/// Reads one chunk after the other. Needs SPI, whose memory it uses; `close` it when done.
class Chunks {
  public:
    Chunks(const World& world, const Question& question, Layout layout);

    /// Goes to the next chunk that has any history; answers false after the last.
    bool next();
    /// Reads a certain chunk.
    void read(std::int32_t chunk);
    void close();

    std::int32_t chunk() const { return chunk_; }
    /// The days of the chunk; by platform, those of one.
    bitmap::Rows days(Platform platform = Platform::unknown) const;
    /// Who was active before the first day.
    bitmap::Bits& before() const { return *before_; }

  private:
    void clear();
    bool load_mask();
    void report_progress();

    const Question question_;
    const Layout layout_;
    std::size_t rows_ = 0;
    bitmap::Bits* bits_ = nullptr;  // rows_ for each platform
    char* used_ = nullptr;          // which of them are not empty
    bitmap::Bits* before_ = nullptr;
    bitmap::Bits* mask_ = nullptr;
    std::int32_t chunk_ = -1;
    std::int32_t last_chunk_ = -1;
    TimestampTz reported_ = 0;
    pg::IndexWalk bitmaps_, visits_;
};

/// The users of a chunk who were registered, of the service and kind that are asked for.
struct Registered {
    std::uint16_t place;
    Instant at;
};
std::vector<Registered> registered(const World& world, const Question& question, std::int32_t chunk);
/// The chunk of the user with the highest number, or -1.
std::int32_t last_user_chunk();

/// Working space for the algebra, in the current memory context.
bitmap::Rows scratch(std::size_t rows);

/// Looks for interrupts: between two calls of the algebra.
inline void check_for_interrupts() {
    pg::guard([] { CHECK_FOR_INTERRUPTS(); });
}

}  // namespace mau::history
