// The way a sighting takes: look, judge, write.
//
// Locks. For each user a try-lock of ours is held for the length of the statement, not the transaction. Under
// it the user's rows are looked at with a dirty snapshot, which shows what other transactions have in flight.
// Rows in flight, and those of a user whose lock another session has, are left alone. That session may be
// recording the same, or something else, or be undone: a sighting that says more than what is committed is
// appended to mau.deferred_calls (activity/deferred.hpp). What remains can be written without waiting for
// anybody, in READ COMMITTED and REPEATABLE READ alike: a row that takes no seat at the place where it was
// found, by its address, the others by statements with a fresh snapshot, in a subtransaction that ends where
// one of them would have to wait. An admission under a limit takes a seat first. Likewise, while somebody has
// locked our tables as a whole, all sightings are deferred.
//
// Visits. The row that a sighting is written to also says which visits are marked (history::Visited). One
// that is not in it is appended to mau.visits, in the same transaction.
#pragma once

#include "rules/platform.hpp"

#include "cohort/cohort.hpp"
#include "cache/seen.hpp"

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
/// as last seen. `visits`: whether they mark days in the history. `judge_known`: whether the last sighting
/// that is known of a user outside the cohort is judged again when it is read again.
struct How {
    Instant horizon = 0;
    Queue queue = Queue::first_come;
    bool visits = true;
    bool judge_known = true;
};

/// Records sightings, as `sort_newest` leaves them. `outcomes` gets one for each user: what became of the
/// newest sighting; the others mark their days. Answers how many users that were. At most `kChunk` of them
/// are one queue.
inline constexpr std::size_t kChunk =
    256;  // users locked at once: bounds the lock table's share of one batch
std::size_t record(const Config& config, const Sighting* sightings, std::size_t count, Outcome* outcomes,
                   const How& how = {});

/// Keeps sightings that cannot be recorded now, because somebody has locked our tables as a whole; replay
/// records them. Where they never can be, on a standby, that is an error.
void defer(const Sighting* sightings, std::size_t count);

/// How far ahead of the server's clock a sighting may be while there is a limit. One that is further ahead
/// counts as one of now: its row would keep a seat for more than 30 days.
inline constexpr Instant kAhead = 300'000;
/// Moves such sightings to now, and counts them.
void hold_back(const Config& config, Sighting* sightings, std::size_t count);

/// Records one sighting that the cache of recently seen users, asked by `key`, does not know.
Outcome record(const Config& config, const Sighting& sighting, const seen::Key& key);

/// Checks and records such a sighting in one: the error body, or nothing for "go ahead".
std::optional<std::string> admit(const Config& config, const Sighting& sighting, const seen::Key& key);

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
std::optional<std::string> check(const Config& config, const Request& request, Instant at,
                                 Trace* trace = nullptr);

/// Tells every rule that decides about a user's sighting and request, and the verdict.
void explain(const Config& config, std::string_view user_id, Instant at, Trace& trace);

}  // namespace mau::activity
