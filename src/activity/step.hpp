// The values of one user of a slice: the sightings, the rows that were found, the decision about the newest
// sighting, and the visits to mark. Each is made from those before it.
#pragma once

#include "activity/activity.hpp"
#include "activity/rows.hpp"

namespace mau::activity {

/// The sightings of one user, the newest first.
struct UserSightings {
    const Sighting* newest = nullptr;
    const Sighting* end = nullptr;
    cache::Key key{};  // made before the rows are looked at
    Outcome* outcome = nullptr;
};

/// A user's rows, and the account, membership and marked visits that they give.
struct Finding {
    UserRows rows{};
    Account account{};
    Membership membership{};
    history::Visited visited;
};
Finding find(const Config& config, Looker& looker, const Sighting& sighting);

/// The row that stores a last sighting.
enum class Target { none, member, user };

/// The basis of a decision.
enum class Basis {
    uncertain,  // a transaction in progress has one of the rows, or another session the lock
    certain,
    past,  // certain, and the sighting is too old to add a member: it is kept as last seen only
};

/// The decision about the newest sighting.
struct Decision {
    Outcome outcome = Outcome::unchanged;
    Target target = Target::none;
    Basis basis = Basis::uncertain;
    bool deferred = false;  // it is recorded later
};

/// Decides by the committed rows. If another transaction in progress has one, a sighting that would change
/// the committed rows is deferred, because that transaction may abort. `locked`: whether the user is locked.
Decision decide(const Config& config, const Sighting& sighting, const Finding& found, bool locked,
                const RecordOptions& options);
/// The decision where no seat could be taken.
Decision without_seat(const Decision& decision);
/// The decision where the row cannot be written now.
Decision put_off();

/// The visits of a user's sightings.
struct Marking {
    history::Visited visited;  // in the history, those that this call marks included
    bool marked = false;       // all of the sightings' days and clients are
    bool deferred = false;     // they are marked later
};

/// One user of a slice.
struct Step {
    UserSightings sightings;
    std::uint64_t lock = 0;
    bool locked = false;
    Finding found;
    Decision decision;
    Marking marking;
    bool written = false;  // the row that stores the sighting is up to date

    const Sighting& sighting() const { return *sightings.newest; }
    bool deferred() const { return decision.deferred || marking.deferred; }
    bool visited_changes() const { return marking.visited.stored() != found.visited.stored(); }
};

/// Whether a sighting outside the cohort is news enough to be written.
bool must_update_last_seen(const Config& config, const Sighting& sighting, const pg::Found& user);

}  // namespace mau::activity
