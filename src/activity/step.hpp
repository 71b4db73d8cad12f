// One user of a chunk on the way from look to write, and the judgement: what the rows say of the user, the
// outcome of the newest sighting, and where it belongs.
#pragma once

#include "activity/activity.hpp"
#include "activity/rows.hpp"

namespace mau::activity {

/// One user of a chunk on the way from look to write.
struct Step {
    const Sighting* sighting = nullptr;  // the newest
    const Sighting* end = nullptr;       // of the user's sightings
    Outcome* outcome = nullptr;
    std::uint64_t lock = 0;
    bool locked = false;
    bool past = false;      // before the horizon: kept as last seen only
    bool sure = false;      // judged on rows that nobody else has in flight
    bool written = false;   // the row that takes the sighting is written
    bool marked = false;    // the days and clients of the sightings are in the history, or will be
    bool deferred = false;  // something of the sightings is left to be recorded later
    seen::Key key{};        // made before the rows were looked at
    Rows rows{};
    Account account{};
    Membership membership{};
    history::Visited visited;      // what the history has, this sighting's visits included
    bool visited_changes = false;  // the row has to be told
};

/// The sightings of one user, the newest first.
Step step_of(const Sighting* sightings, const Sighting* end, Outcome* outcome, const seen::Key& key);

/// Reads the rows for what they say of the user.
void interpret_rows(const Config& config, Step& step);

/// Judges by the rows. What another transaction has in flight is left alone: a sighting that says more than
/// what is committed is recorded later, because that transaction may be undone.
void judge(const Config& config, Step& step, const How& how);

/// Whether a sighting outside the cohort is news enough to be written.
bool is_news(const Config& config, const Step& step);

/// Where the last sighting of a user belongs who met with an outcome.
enum class Place { nowhere, member, user };
Place place_of(const Step& step);

}  // namespace mau::activity
