// Leaving the cohort: expired rows and their removal.
//
// A row is removed and its last sighting moved to mau.users by one statement. Both rows are locked first;
// where another transaction has one of them, the row is left for the next reap, so no transaction waits.
#pragma once

#include "config/config.hpp"
#include "seats/seats.hpp"

namespace mau::cohort {

/// The services whose expired rows are removed.
enum class Services { all, native };

/// The native rows that have expired at an instant and are no reserved user's: through the index, at a cost
/// that follows their number.
std::int64_t count_expired_natives(const Config& config, Instant at, seats::Purpose purpose);

/// Removes rows whose last sighting is before `cutoff`, except those of reserved users, the oldest first, at
/// most `max_rows`. Returns the number removed.
struct Expired {
    std::int64_t rows = 0;
    bool seen_since = false;  // met rows that the index has before the cutoff and that were seen since
};
Expired remove_expired(const Config& config, Instant cutoff, const std::vector<std::string_view>& reserved,
                       std::int64_t max_rows);

/// Removes `count` expired native rows, or as many as no other transaction holds, for an admission that needs
/// their seats. Tries 1000 rows one by one, or up to 10 000 in one statement if more are needed. Never waits
/// and never raises because of concurrency.
struct Freed {
    std::int64_t seats = 0;
    bool met_locks = false;  // rows stayed because of locks on the tables, their indexes or the sequence
};
Freed free_seats(const Config& config, Instant cutoff, std::int64_t count, bool only_ours);

/// Removes rows like `remove`, for an admission: in a subtransaction, and without waiting. Nothing where a
/// lock conflicts: then no row is removed. `only_ours`: the tables have no triggers of others, which may wait
/// for any lock.
std::optional<std::int64_t> try_remove(const Config& config, const std::vector<std::string_view>& user_ids,
                                       Instant cutoff, bool only_ours);

/// Removes the rows of these users whose last sighting is before `cutoff`; rows in use stay. Waits for locks
/// on the tables. Returns the number removed.
std::int64_t remove(const Config& config, const std::vector<std::string_view>& user_ids, Instant cutoff);

/// Removes a user from the cohort; waits for transactions that have the user's rows. Returns whether there
/// was a row.
bool remove(const Config& config, std::string_view user_id);

}  // namespace mau::cohort
