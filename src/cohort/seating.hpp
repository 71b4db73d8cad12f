// Seats for those who join the cohort while there is a limit.
//
// A seat is taken from the counters (seats/seats.hpp), or where there are none by counting rows under a lock.
// Where the server is full, expired rows are taken out and the question is asked once more: so a seat is free
// from the millisecond in which its row expires, and the counters need no clock. An expired row of the user's
// own leaves first. Expiry is judged by the sighting's time, or the server's clock where the sighting is
// ahead of it.
#pragma once

#include "config/directory.hpp"

namespace mau::cohort {

/// Gives out the seats of one statement.
class Seating {
  public:
    explicit Seating(const Config& config) : config_(config) {}

    /// Takes a seat for a user who joins at an instant; false where the server is full. `has_row`: the user
    /// has an expired row.
    bool take(std::string_view user_id, Instant at, bool has_row);
    /// Takes seats without asking, where there is no limit: should it be switched on, those under way have
    /// theirs.
    void take_unlimited(std::int64_t seats);
    /// To be called when the rows are written, or were not.
    void done(bool written);

  private:
    bool ask(std::int64_t* missing);
    bool ask_under_lock(std::int64_t* missing);

    const Config& config_;
    std::int64_t taken_ = 0;
    bool locked_ = false;
    std::int64_t counted_ = 0;  // while locked
};

}  // namespace mau::cohort
