// The state of one user of a chunk between look and write, and the judgement: account and membership from the
// rows, the outcome of the newest sighting, and the row that stores it.
#pragma once

#include "activity/activity.hpp"
#include "activity/rows.hpp"

namespace mau::activity {

/// The state of one user of a chunk.
struct Step {
    const Sighting* sighting = nullptr;  // the newest
    const Sighting* end = nullptr;       // of the user's sightings
    Outcome* outcome = nullptr;
    std::uint64_t lock = 0;
    bool locked = false;
    bool past = false;      // before the horizon: kept as last seen only
    bool sure = false;      // judged on rows that no transaction in progress holds
    bool written = false;   // the row that takes the sighting is written
    bool marked = false;    // the days and clients of the sightings are in the history, or will be
    bool deferred = false;  // a part of the sightings is recorded later
    seen::Key key{};        // made before the rows were looked at
    UserRows rows{};
    Account account{};
    Membership membership{};
    history::Visited visited;      // the marked visits, this sighting's included
    bool visited_changes = false;  // the row must be updated
};

/// The sightings of one user, the newest first.
Step step_of(const Sighting* sightings, const Sighting* end, Outcome* outcome, const seen::Key& key);

/// Sets account, membership and marked visits from the rows.
void interpret_rows(const Config& config, Step& step);

/// Judges by the committed rows. If another transaction in progress holds one, a sighting that would change
/// the committed rows is deferred, because that transaction may abort.
void judge(const Config& config, Step& step, const RecordOptions& options);

/// Whether a sighting outside the cohort has to be written.
bool must_update_last_seen(const Config& config, const Step& step);

/// The row that stores the last sighting after an outcome.
enum class Target { none, member, user };
Target target_of(const Step& step);

}  // namespace mau::activity
