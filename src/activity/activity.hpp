// Recording a sighting: look, judge, write. Requests (admit, check, explain) are in admission.cpp.
//
// Locks. Each user is locked by a try-lock that ends with the statement, not with the transaction. Under it
// the user's rows are read with a dirty snapshot, which shows rows of transactions in progress. Such rows are
// skipped, and so are users whose lock another session holds. The other transaction may record the same, or
// something else, or be rolled back, so a sighting that would change the committed rows is appended to
// mau.deferred_calls (activity/deferred.hpp). All other writes wait for no transaction, in READ COMMITTED and
// in REPEATABLE READ: an existing row that takes no seat is updated in place; other rows are written by
// statements with a fresh snapshot, in a subtransaction that is rolled back if one of them would wait. An
// admission under a limit takes a seat first. While a table lock of another session conflicts, all sightings
// are deferred.
//
// Visits. The row that is written also stores which visits are marked (history::Visited). A visit that it
// does not have is appended to mau.visits in the same transaction.
#pragma once

#include "rules/platform.hpp"

#include "cohort/cohort.hpp"
#include "cache/cache.hpp"

namespace mau::activity {

struct Sighting {
    std::string_view user_id;
    Instant at;
    Platform platform;
    std::optional<std::int64_t> called_at = std::nullopt;  // of a deferred call, PostgreSQL's microseconds
};

/// The order in which the sightings of one slice get seats: by time, or, in an import, the newest first,
/// because reap removes the longest unseen members first.
enum class Queue { first_come, newest_first };

/// Options of `record`. A sighting before `horizon` adds no member; it only sets the last sighting. `visits`:
/// days are marked in the history. `judge_known`: a sighting of a non-member that is not later than the known
/// last sighting is judged again. `is_task`: a sighting that can be neither recorded nor deferred is an error
/// (55P03), because the task is repeated; a homeserver's call only gives a WARNING.
struct RecordOptions {
    Instant horizon = 0;
    Queue queue = Queue::first_come;
    bool visits = true;
    bool judge_known = true;
    bool is_task = false;
};

struct Recorded {
    std::size_t users = 0;
    std::int64_t deferred = 0;  // sightings
};

/// The users locked at once; bounds the lock table's share of one batch.
inline constexpr std::size_t kSlice = 256;

/// Records sightings that `sort_newest` has sorted. `outcomes` gets one outcome for each user, that of the
/// newest sighting; older sightings only mark their days. Seats are given out within one slice of `kSlice`
/// users at a time.
Recorded record(const Config& config, const Sighting* sightings, std::size_t count, Outcome* outcomes,
                const RecordOptions& options = {});

/// Appends sightings to mau.deferred_calls, for when they cannot be recorded now. Raises 25006 on a standby.
void defer(const Sighting* sightings, std::size_t count, bool is_task = false);

/// How far ahead of the server's clock a sighting may be while there is a limit. One that is further ahead
/// counts as one of now: its row would keep a seat for more than 30 days.
inline constexpr Instant kAhead = 300'000;
/// Sets the time of sightings that are further ahead to now, and counts them for mau.status.
void clamp_to_now(const Config& config, Sighting* sightings, std::size_t count);

/// Records one sighting that the cache of recently seen users, asked by `key`, does not know.
Outcome record(const Config& config, const Sighting& sighting, const cache::Key& key);

/// Checks and records such a sighting in one: the error body, or nothing for "go ahead".
std::optional<std::string> admit(const Config& config, const Sighting& sighting, const cache::Key& key);

/// The client's bit in the cache of recently seen users.
inline unsigned client_of(Platform platform) {
    return 1U << static_cast<int>(platform);
}

/// Removes the sightings that the cache knows to change nothing. Returns the number of users who have none
/// left.
std::size_t drop_cached_sightings(std::vector<Sighting>& sightings);

/// Sorts sightings by user id, the newest first, and leaves one for each user, day and client.
void sort_newest(std::vector<Sighting>& sightings);

/// Returns the error body for a request, or nothing if the request goes ahead.
std::optional<std::string> check(const Config& config, const Request& request, Instant at,
                                 Trace* trace = nullptr);

/// Passes to `trace` every rule that decides about the user's sighting and request, and the verdict.
void explain(const Config& config, std::string_view user_id, Instant at, Trace& trace);

}  // namespace mau::activity
