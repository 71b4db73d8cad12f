#include "activity/step.hpp"

namespace mau::activity {

Step step_of(const Sighting* sightings, const Sighting* end, Outcome* outcome, const seen::Key& key) {
    Step step;
    step.sighting = sightings;
    step.end = end;
    step.outcome = outcome;
    step.key = key;
    return step;
}

void interpret_rows(const Config& config, Step& step) {
    const Sighting& sighting = *step.sighting;
    step.account = directory::account(config, sighting.user_id, step.rows.user);
    step.membership = membership_of(step.rows.member);
    // A member with a recent sighting counts, reserved or not.
    if (!config.reserved.empty() && !step.membership.holds(sighting.at))
        step.membership.reserved = directory::is_reserved_user(config, sighting.user_id);
    step.visited = visited_of(step.rows);
}

bool must_update_last_seen(const Config& config, const Step& step) {
    if (!step.rows.user.exists || step.rows.user.is_null(directory::users::last_seen)) return true;
    return step.sighting->at - step.rows.user.integer(directory::users::last_seen) >
           config.settings.last_seen_granularity;
}

namespace {

Target target_of(Outcome outcome) {
    switch (outcome) {
        case Outcome::joined:
        case Outcome::refreshed:
        case Outcome::unchanged:
            return Target::member;
        case Outcome::remote:
        case Outcome::off:
            return Target::none;
        case Outcome::guest:
        case Outcome::trial:
        case Outcome::support:
        case Outcome::appservice:
        case Outcome::deactivated:
        case Outcome::full:
            break;
    }
    return Target::user;
}

}  // namespace

Target target_of(const Step& step) {
    if (!step.sure) return Target::none;
    return step.past ? Target::user : target_of(*step.outcome);
}

void judge(const Config& config, Step& step, const RecordOptions& options) {
    const Sighting& sighting = *step.sighting;
    *step.outcome =
        judge_sighting(config.settings, sighting.user_id, step.account, step.membership, sighting.at);
    // Whether a newcomer takes a seat depends on the account, which the other transaction may change.
    const bool is_newcomer = !step.rows.user.exists || *step.outcome == Outcome::joined;
    if (!step.locked || step.rows.member.in_flight || (step.rows.user.in_flight && is_newcomer)) {
        const Target target = target_of(*step.outcome);
        step.deferred = (target == Target::member && *step.outcome != Outcome::unchanged) ||
                        (target == Target::user && must_update_last_seen(config, step));
        if (target != Target::none) *step.outcome = Outcome::unchanged;
        return;
    }
    step.sure = true;
    const pg::Found& user = step.rows.user;
    const bool known = !options.judge_known && user.exists && !user.is_null(directory::users::last_seen) &&
                       user.integer(directory::users::last_seen) >= sighting.at;
    step.past = (sighting.at < options.horizon || known) && *step.outcome == Outcome::joined;
    if (step.past) *step.outcome = Outcome::unchanged;
    step.deferred = user.in_flight && target_of(step) == Target::user && must_update_last_seen(config, step);
}

}  // namespace mau::activity
