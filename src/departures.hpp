// departures: members whose rows have expired, on their way from the cohort to mau.users (law L5).
//
// A reap frees seats, so it has to be as fast as deleting rows is. Finding each row of mau.users and writing
// it takes six times as long. So what leaves is kept in mau.departures first, thousands of users in a row, in
// the transaction of the reap; `settle` (fold, by the worker or by hand) moves the last sightings on to
// mau.users when there is time. At every moment a last sighting is in one of the three tables, and
// `mau.last_seen` and the like look at all of them.
#pragma once

#include "directory.hpp"

namespace mau::departures {

/// Users and when they were last seen, of departures that are not settled: to be joined to.
#define MAU_DEPARTED                                                                            \
    "(SELECT d.user_id, pg_catalog.max(d.at) AS at FROM mau.departures p,"                      \
    " ROWS FROM (pg_catalog.unnest(p.user_ids), pg_catalog.unnest(p.last_seen)) d(user_id, at)" \
    " GROUP BY d.user_id)"

/// How many left of a service.
struct Left {
    std::string service;
    std::int64_t users;
};

/// Whether rows can be deleted past the executor: nobody but us has a trigger on them, nor a policy, nor a
/// rule, and the caller may.
bool can_expire(const World& world);

/// What `expire` did, and whether it met members whom the index has before the cutoff and who were seen
/// since.
struct Expired {
    std::vector<Left> left;
    bool seen_since = false;
};

/// Takes members out whose last sighting is before `cutoff`, but for the reserved ones (sorted), `max_rows`
/// at most. Rows that somebody has locked are left for the next time.
Expired expire(const World& world, Instant cutoff, const std::vector<std::string_view>& reserved,
               std::int64_t max_rows);

/// Takes the user out of those that are not settled, and answers whether there was one; waits for whoever is
/// settling.
bool forget(std::string_view user_id);

/// Moves departures on to mau.users, about `max_users`; answers how many. Rows that somebody has locked are
/// left for the next time.
std::int64_t settle(std::int64_t max_users);

}  // namespace mau::departures
