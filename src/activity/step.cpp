#include "activity/step.hpp"

namespace mau::activity {

Finding find(const Config& config, Looker& looker, const Sighting& sighting) {
    Finding found;
    found.rows = looker.find(sighting.user_id);
    found.account = config::account(config, sighting.user_id, found.rows.user);
    found.membership = membership_of(found.rows.member);
    // A member with a recent sighting counts whether reserved or not.
    if (!config.reserved.empty() && !found.membership.holds(sighting.at))
        found.membership.reserved = config::is_reserved_user(config, sighting.user_id);
    found.visited = visited_of(found.rows);
    return found;
}

bool must_update_last_seen(const Config& config, const Sighting& sighting, const pg::Found& user) {
    if (!user.exists || user.is_null(config::users::last_seen)) return true;
    return sighting.at - user.integer(config::users::last_seen) > config.settings.last_seen_granularity;
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
        case Outcome::locked:
        case Outcome::full:
            break;
    }
    return Target::user;
}

}  // namespace

Decision decide(const Config& config, const Sighting& sighting, const Finding& found, bool locked,
                const RecordOptions& options) {
    const Outcome outcome =
        judge_sighting(config.settings, sighting.user_id, found.account, found.membership, sighting.at);
    const pg::Found& user = found.rows.user;
    const bool is_news = must_update_last_seen(config, sighting, user);
    // Whether a newcomer takes a seat depends on the account, which the other transaction may change.
    const bool is_newcomer = !user.exists || outcome == Outcome::joined;
    if (!locked || found.rows.member.in_flight || (user.in_flight && is_newcomer)) {
        const Target target = target_of(outcome);
        const bool changes = (target == Target::member && outcome != Outcome::unchanged) ||
                             (target == Target::user && is_news);
        return {target == Target::none ? outcome : Outcome::unchanged, Target::none, Basis::uncertain,
                changes};
    }
    const bool known = !options.judge_known && user.exists && !user.is_null(config::users::last_seen) &&
                       user.integer(config::users::last_seen) >= sighting.at;
    const bool past = (sighting.at < options.horizon || known) && outcome == Outcome::joined;
    const Target target = past ? Target::user : target_of(outcome);
    return {past ? Outcome::unchanged : outcome, target, past ? Basis::past : Basis::certain,
            user.in_flight && target == Target::user && is_news};
}

Decision without_seat(const Decision& decision) {
    return {Outcome::full, target_of(Outcome::full), decision.basis, decision.deferred};
}

Decision put_off() {
    Decision decision;
    decision.deferred = true;
    return decision;
}

}  // namespace mau::activity
