// The way a sighting takes: look, judge, write.
//
// The locking law. For each user a try-lock of ours is held for the length of the statement, not the
// transaction; who does not get it leaves: somebody is recording this very user now, and that is as good as
// done. Under the lock the user's rows are looked at with a dirty snapshot, which shows what other
// transactions have in flight; a row in flight is left alone for the same reason. What remains can be written
// without waiting for anybody, with a fresh snapshot, in READ COMMITTED and REPEATABLE READ alike. An
// admission under a limit takes a seat first.
#pragma once

#include "platform.hpp"

#include "cohort.hpp"

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

/// Sorts sightings by user id, the newest first, and leaves one for each user, day and client.
void sort_newest(std::vector<Sighting>& sightings);

/// What a request meets: the error body, or nothing for "go ahead".
std::optional<std::string> check(const World& world, const Request& request, Instant at,
                                 Trace* trace = nullptr);

}  // namespace mau::activity
