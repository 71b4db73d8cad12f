// Seats for those who join the cohort while there is a limit.
//
// A seat is taken from the counters (seats/seats.hpp), or, without counters, by counting rows under a lock.
// If the server is full, expired rows are removed, and the seat is asked for again. So a seat is free from
// the millisecond in which its row expires, and the counters do not depend on time. An expired row of the
// same user is removed first. Expiry is judged at the sighting's time, or at the server's clock if the
// sighting is later. Where an administrator's lock keeps an expired row from being removed, no seat is freed,
// and it is not known whether the server is full.
#pragma once

#include "config/config.hpp"

namespace mau::cohort {

/// The result of asking for a seat. `met_locks`: an expired row may hold the seat, and a lock keeps it from
/// being removed.
enum class Seat { taken, full, met_locks };

/// Gives out the seats of one statement. Waits for no transaction.
class Seating {
  public:
    /// `only_ours`: the tables have no triggers of others, which may wait for any lock.
    Seating(const Config& config, bool only_ours) : config_(config), only_ours_(only_ours) {}

    /// Takes a seat for a user who joins at an instant. `has_row`: the user has an expired row.
    Seat take(std::string_view user_id, Instant at, bool has_row);
    /// Takes seats without asking, where there is no limit, so that admissions in progress hold theirs if the
    /// limit is switched on.
    void take_unlimited(std::int64_t seats);
    /// Call it when the rows are written, or were not.
    void done(bool written);

  private:
    Seat ask(std::int64_t* missing);
    Seat ask_under_lock(std::int64_t* missing);

    const Config& config_;
    const bool only_ours_;
    Instant newest_ = INT64_MIN;  // of those who have got a seat
    std::int64_t taken_ = 0;
    bool locked_ = false;
    std::int64_t counted_ = 0;  // while locked
};

}  // namespace mau::cohort
