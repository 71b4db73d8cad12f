#include "cohort/seating.hpp"

#include <algorithm>

#include "cohort/alert.hpp"
#include "cohort/cohort.hpp"
#include "cohort/leaving.hpp"
#include "pg/locks.hpp"
#include "pg/values.hpp"
#include "seats/seats.hpp"

namespace mau::cohort {

Seat Seating::take(std::string_view user_id, Instant at, bool has_row) {
    if (has_row) {
        const auto left =
            try_remove(config_, std::vector<std::string_view>{user_id}, at - kWindow, only_ours_);
        if (!left) return Seat::met_locks;
        if (locked_) counted_ -= *left;
    }
    const Instant cutoff = std::min(at, pg::to_instant(GetCurrentTimestamp())) - kWindow;
    std::int64_t missing = 0;
    for (;;) {
        const Seat seat = ask(&missing);
        if (seat == Seat::taken) newest_ = std::max(newest_, at);
        if (seat != Seat::full) return seat;
        const Freed freed = free_seats(config_, cutoff, missing, only_ours_);
        if (locked_) counted_ -= freed.seats;
        if (freed.seats >= missing) continue;
        if (freed.met_locks) return Seat::met_locks;
        look_at_limit(config_, at, AlertCause::refused);
        return Seat::full;
    }
}

/// Takes a seat if there is one.
Seat Seating::ask(std::int64_t* missing) {
    if (!locked_) {
        const seats::Take take = seats::take(config_, missing);
        if (take == seats::Take::taken) ++taken_;
        if (take != seats::Take::unknown) return take == seats::Take::taken ? Seat::taken : Seat::full;
    }
    return ask_under_lock(missing);
}

/// Without counters: counts the rows, those in flight included, and keeps the lock until the rows are
/// written. It is held for the length of a statement, so no call waits for an open transaction here either.
Seat Seating::ask_under_lock(std::int64_t* missing) {
    if (!locked_) {
        // Nobody may wait for the table while others wait for the seats' lock.
        if (!pg::try_table_lock(config_.cohort_table, RowExclusiveLock)) return Seat::met_locks;
        pg::take_lock(pg::LockSpace::seats, 0);
        locked_ = true;
        counted_ = count_rows_with_in_flight(config_) + seats::in_flight_elsewhere();
    }
    *missing = counted_ - config_.settings.max_mau_value + 1;
    if (*missing > 0) return Seat::full;
    ++counted_;
    if (seats::enabled()) {
        seats::take_unconditionally(config_, 1);
        ++taken_;
    }
    return Seat::taken;
}

void Seating::take_unlimited(std::int64_t seats) {
    if (!seats::enabled()) return;
    seats::take_unconditionally(config_, seats);
    taken_ += seats;
}

void Seating::done(bool written) {
    if (taken_ > 0) written ? seats::used(taken_) : seats::give_back(taken_);
    if (written && newest_ > INT64_MIN)
        look_at_limit(config_, newest_, AlertCause::joined, locked_ ? std::optional(counted_) : std::nullopt);
    if (locked_) pg::release_lock(pg::LockSpace::seats, 0);
}

}  // namespace mau::cohort
