// The way a sighting takes: look, judge, write.
//
// The locking law. For each user a try-lock of ours is held for the length of the statement, not the
// transaction; who does not get it leaves the rows alone: somebody is recording this very user now, and that
// is as good as done. Under the lock the user's rows are looked at with a dirty snapshot, which shows what
// other transactions have in flight; a row in flight is left alone for the same reason. What remains can be
// written without waiting for anybody, in READ COMMITTED and REPEATABLE READ alike: a row that takes no seat
// at the place where it was found, by its address, the others by statements with a fresh snapshot. An
// admission under a limit takes a seat first.
//
// Visits. The row that a sighting is written to also says which visits are marked (history::Visited). One
// that is not in it is appended to mau.visits, in the same transaction.
#pragma once

#include "platform.hpp"

#include "cohort.hpp"
#include "seen.hpp"

namespace mau::activity {

struct Sighting {
    std::string_view user_id;
    Instant at;
    Platform platform;
};

/// How seats are given out among sightings that come together: to who was seen first, or, in an import, to
/// whom the reaper would leave: who was seen last.
enum class Queue { first_come, newest_first };

/// How sightings are recorded. Those before `horizon` are the past: they make nobody a member, but are kept
/// as last seen. `visits`: whether they mark days in the history.
struct How {
    Instant horizon = 0;
    Queue queue = Queue::first_come;
    bool visits = true;
};

/// Records sightings, as `sort_newest` leaves them. `outcomes` gets one for each user: what became of the
/// newest sighting; the others mark their days. Answers how many users that were. At most `kChunk` of them
/// are one queue.
inline constexpr std::size_t kChunk =
    256;  // users locked at once: bounds the lock table's share of one batch
std::size_t record(const World& world, const Sighting* sightings, std::size_t count, Outcome* outcomes,
                   const How& how = {});

/// How far ahead of the server's clock a sighting may be while there is a limit. One that is further ahead
/// counts as one of now: its row would keep a seat for more than 30 days.
inline constexpr Instant kAhead = 300'000;
/// Moves such sightings to now, and counts them.
void hold_back(const World& world, Sighting* sightings, std::size_t count);

/// Records one sighting that the cache of recently seen users, asked by `key`, does not know.
Outcome record(const World& world, const Sighting& sighting, const seen::Key& key);

/// Checks and records such a sighting in one: the error body, or nothing for "go ahead".
std::optional<std::string> admit(const World& world, const Sighting& sighting, const seen::Key& key);

/// The client's bit in the cache of recently seen users.
inline unsigned client_of(Platform platform) {
    return 1U << static_cast<int>(platform);
}

/// Takes out the sightings of which the cache knows that they change nothing; answers how many users have
/// none left.
std::size_t leave_news(std::vector<Sighting>& sightings);

/// Sorts sightings by user id, the newest first, and leaves one for each user, day and client.
void sort_newest(std::vector<Sighting>& sightings);

/// What a request meets: the error body, or nothing for "go ahead".
std::optional<std::string> check(const World& world, const Request& request, Instant at,
                                 Trace* trace = nullptr);

/// Tells every rule that decides about a user's sighting and request, and the verdict.
void explain(const World& world, std::string_view user_id, Instant at, Trace& trace);

}  // namespace mau::activity
