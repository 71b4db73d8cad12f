// The cap's counters in shared memory: how many rows of each service the cohort has, and how many seats are
// taken by transactions that are not done. Law L4 stands on this file.
//
//   seats taken = counted rows committed - those that have expired + admissions in flight
//
// State machine of an admission. `take` adds one to `in_flight` under the database's lock, before the row is
// written, if the sum leaves room. The tally of the transaction remembers it, by level of subtransaction. An
// abort gives it back at once. At commit, after the row became visible, the callback turns it into a
// committed row: between the two the seat is counted once, as in flight, so the error is always to the safe
// side. Without a limit seats are taken just the same, unasked: who is under way when it is switched on has
// one.
//
// Rows. Whoever adds or removes rows of the cohort tells `add_rows`; the change reaches the counters at
// commit. A statement that nobody told about (an admin's DML) is noticed by triggers, and the counters are
// forgotten at the end of that transaction; before the next admission they are taken from the table again.
//
// Recount. Under the database's lock a snapshot is taken and every backend's admissions are looked at: those
// whose transaction the snapshot sees already as done, while the callback is still to come, are marked
// settled, so that the callback does not add their rows again. Rows that commit during the recount come on
// top, as usual. Only where nobody was newly settled is a difference between counters and table an error to
// tell.
//
// Expired rows still count in `rows`; where the house looks full they are counted by an index range (at most
// an hour's worth) and subtracted. `changes` is raised by everything that could make that count too large
// between the look and the decision; then the look is repeated.
#pragma once

#include "directory.hpp"

namespace mau::seats {

void init();

/// Whether there are counters; without preload there are none, and the cap is held by a lock.
bool enabled();

/// What became of asking for a seat.
enum class Take { taken, full, unknown };

/// Asks for one seat at an instant. `unknown`: there are no counters to rely on now; count under a lock, then
/// `take_anyway`.
Take take(const World& world, Instant at);
/// Takes seats that were found in another way, so that everybody knows of them.
void take_anyway(const World& world, std::int64_t seats);
/// Tells that the rows for so many seats taken are written and told about.
void used(std::int64_t seats);
/// Gives back seats that were not used.
void give_back(std::int64_t seats);
/// The seats that other transactions under way have taken.
std::int64_t in_flight_elsewhere();

/// Tells that this transaction adds (or removes) rows of a service.
void add_rows(const World& world, std::string_view service, std::int64_t rows);
/// Tells that this transaction brings an expired row back to life.
void add_return(const World& world);

/// While one lives, DML on the cohort and on mau.users is ours, and told about where it matters.
class ToldAbout {
  public:
    ToldAbout();
    ~ToldAbout();
    ToldAbout(const ToldAbout&) = delete;
    ToldAbout& operator=(const ToldAbout&) = delete;
};

/// Whether DML that a trigger sees is told about.
bool told();

/// Notices DML on the cohort, by a trigger; untold DML makes the counters be taken from the table again.
void notice_dml(Oid cohort);

/// The committed rows of a service, expired ones too.
struct ServiceRows {
    std::string service;
    std::int64_t rows;
};
/// The rows by service; `all`: whether every service is among them, as natives always are.
struct Rows {
    std::vector<ServiceRows> services;
    bool all = true;
};
/// Whether figures are to be what the caller's statement sees, or what is committed now.
enum class For { statement, decision };
/// The rows; nothing where the counters cannot be had, or do not say what is asked for.
std::optional<Rows> rows(const World& world, For purpose);
/// The rows by service that have expired at an instant and are no reserved user's: by the index, at a cost
/// that follows their number.
std::vector<ServiceRows> expired(const World& world, Instant at, For purpose);
/// The number of changes so far that could have made a look at expired rows stale.
std::uint64_t changes();

/// Compares the counters with the table; a difference is logged and mended. Answers how many rows they were
/// off.
std::int64_t verify(const World& world);

/// In words, for mau.status.
std::string describe();

}  // namespace mau::seats
