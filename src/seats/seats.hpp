// The counters of the limit in shared memory: committed native rows, and seats of transactions in progress.
// Rule R4 (the limit holds) depends on them. README.md describes states, recounts and locks.
#pragma once

#include "config/config.hpp"

namespace mau::seats {

void init();

/// Whether there are counters; without preload there are none, and a lock keeps the limit.
bool enabled();

/// The result of asking for a seat. `unknown`: the counters are not known now; count under a lock, then
/// `take_unconditionally`.
enum class Take { taken, full, unknown };

/// Takes one seat. If the server is full, `missing` is the number of seats that must be freed first.
Take take(const Config& config, std::int64_t* missing);
/// Takes seats that the caller has found by counting, so that other sessions see them.
void take_unconditionally(const Config& config, std::int64_t seats);
/// Records that the rows for these seats are written, and announced by `add_rows`.
void used(std::int64_t seats);
/// Gives back seats that were not used.
void give_back(std::int64_t seats);
/// The seats that other transactions in progress have taken.
std::int64_t in_flight_elsewhere();

/// Announces that this transaction adds (or removes) rows of a service.
void add_rows(const Config& config, std::string_view service, std::int64_t rows);

/// While one exists, mau's own statements on the cohort and on mau.users count as announced. DML of other
/// triggers that these statements fire does not.
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

/// The rows that a figure includes: those that the caller's statement sees, or those that are committed now.
enum class Purpose { statement, decision };
/// The native rows, expired ones too; nothing where the counters are unknown, or may differ from what the
/// purpose needs.
std::optional<std::int64_t> rows(const Config& config, Purpose purpose);

/// Before a commit: the transaction's new rows count for others from here on. Returns whether the state of
/// the limit may have risen since `look_after` was called with the same thresholds; `was_full`: the
/// transaction has found the server full.
bool begin_commit(std::uint64_t thresholds, bool was_full);

/// The native rows, expired ones too, as the commit leaves them: those that are committed, those of other
/// transactions that are committing, and this transaction's own. `joined`: how many have ever been added.
struct AtCommit {
    std::int64_t rows, joined;
};
/// Nothing where the counters are unknown. After `begin_commit`.
std::optional<AtCommit> at_commit(const Config& config);

/// From when on `begin_commit` returns true: when `more` rows have been added after the first `joined`;
/// nothing: never. After the commit; raises nothing.
void look_after(std::uint64_t thresholds, std::int64_t joined, std::optional<std::int64_t> more);

/// Compares the counters with the table; logs and corrects a difference. Returns by how many rows they were
/// wrong; 0 where the table is locked.
std::int64_t verify(const Config& config);

/// Counts sightings that were ahead of the server's clock.
void count_ahead(std::int64_t sightings);

/// Counts calls that could be neither carried out nor deferred, and are lost.
void count_lost(std::int64_t calls);

/// Counts a request that is refused: the server is full or, if `disabled`, closed.
void count_blocked(bool disabled);

/// Numbers of events since the server started.
struct Totals {
    std::int64_t recounts, corrected, ahead, lost, blocked_full, blocked_disabled;
};
/// Nothing without preload.
std::optional<Totals> totals();

/// The state of the counters in words, for mau.status.
std::string describe();

}  // namespace mau::seats
