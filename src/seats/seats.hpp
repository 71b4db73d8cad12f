// The cap's counters in shared memory: how many rows of native users the cohort has, and how many seats are
// taken by transactions that are not done. The cap (rule R4) stands on this file.
//
//   seats taken = native rows committed + admissions in flight
//
// An expired row keeps its seat until it is taken out (cohort/leaving.hpp); whoever asks and finds the server
// full takes out what has expired and asks again (cohort/seating.hpp). So the counters know nothing of time.
//
// State machine of an admission. `take` adds one to `in_flight` under the database's lock, before the row is
// written, if the sum leaves room. The tally of the transaction remembers it, by level of subtransaction. An
// abort gives it back at once. At commit, after the row became visible, the callback turns it into a
// committed row: between the two the seat is counted twice, so the error is always to the safe
// side. A seat that takes the place of a row which the same subtransaction has removed is not in flight: both
// commit together, or neither does. Without a limit seats are taken just the same, unasked: an admission that
// is under way when the limit is switched on has one.
//
// Rows. Whoever adds or removes rows of the cohort calls `add_rows`; the change reaches the counters at
// commit. A statement that is not announced so (an admin's DML) is noticed by triggers, and the counters are
// forgotten at the end of that transaction; before the next admission they are taken from the table again.
// The counters belong to one state of the table's triggers (Config::cohort_version): where triggers were
// disabled for a while, the counters are taken from the table again; while they are disabled, there are none.
//
// Recount. Under the database's lock a snapshot is taken and every backend's admissions are looked at: those
// whose transaction the snapshot sees already as done, while the callback is still to come, are marked
// settled, so that the callback does not add their rows again. Rows that commit during the recount come on
// top, as usual. Only where nobody was newly settled is a difference between counters and table an error to
// tell.
//
// Callbacks at the end of transactions and subtransactions neither allocate nor raise: a level of the tally
// is plain data, and room for one is made before anything is noted in it.
#pragma once

#include "config/directory.hpp"

namespace mau::seats {

void init();

/// Whether there are counters; without preload there are none, and the cap is held by a lock.
bool enabled();

/// What became of asking for a seat. `unknown`: there are no counters to rely on now; count under a lock,
/// then `take_anyway`.
enum class Take { taken, full, unknown };

/// Asks for one seat. Where the server is full, `missing` is by how many seats.
Take take(const Config& config, std::int64_t* missing);
/// Takes seats that were found in another way, so that everybody knows of them.
void take_anyway(const Config& config, std::int64_t seats);
/// Tells that the rows for so many seats taken are written and told about.
void used(std::int64_t seats);
/// Gives back seats that were not used.
void give_back(std::int64_t seats);
/// The seats that other transactions under way have taken.
std::int64_t in_flight_elsewhere();

/// Tells that this transaction adds (or removes) rows of a service.
void add_rows(const Config& config, std::string_view service, std::int64_t rows);

/// While one lives, DML of our own statements on the cohort and on mau.users is announced where it matters.
/// DML that a trigger of somebody else's runs meanwhile is not.
class Announced {
  public:
    Announced();
    ~Announced();
    Announced(const Announced&) = delete;
    Announced& operator=(const Announced&) = delete;

  private:
    int outer_;
};

/// Whether DML that a trigger sees is announced.
bool is_announced();

/// Notices DML on the cohort, by a trigger; unannounced DML makes the counters be taken from the table again.
void notice_dml(Oid cohort);

/// Whether figures are to be what the caller's statement sees, or what is committed now.
enum class For { statement, decision };
/// The native rows, expired ones too; nothing where the counters cannot be had, or do not say what is asked
/// for.
std::optional<std::int64_t> rows(const Config& config, For purpose);

/// Compares the counters with the table; a difference is logged and mended. Answers how many rows they were
/// off.
std::int64_t verify(const Config& config);

/// Counts sightings that were ahead of the server's clock.
void count_ahead(std::int64_t sightings);

/// In words, for mau.status.
std::string describe();

}  // namespace mau::seats
