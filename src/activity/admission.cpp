#include "activity/activity.hpp"

#include "activity/slice.hpp"
#include "seats/seats.hpp"

namespace mau::activity {

namespace {

/// The rows, the account and the membership of a request's user.
struct Known {
    UserRows rows;
    Account account;
    Membership membership;
};

/// A user whose row another transaction is inserting is treated as a member: that user is being admitted.
void take_for_member(const UserRows& rows, Instant at, Membership& membership) {
    if (!rows.member.exists && rows.member.in_flight) membership.last_seen = at;
}

Known look_up(const Config& config, std::string_view user_id, Instant at, bool always_reserved) {
    Known known;
    Looker looker(config);
    known.rows = looker.find(user_id);
    looker.close();
    known.account = config::account(config, user_id, known.rows.user);
    known.membership = membership_of(known.rows.member);
    take_for_member(known.rows, at, known.membership);
    if (!config.reserved.empty() && (always_reserved || !known.membership.holds(at)))
        known.membership.reserved = config::is_reserved_user(config, user_id);
    return known;
}

/// The answer to a request that is also recorded. A newcomer is blocked if no seat can be taken; the members
/// are not counted first.
struct Answer {
    Gate gate = Gate::open;
    bool blocked = false;
};

Answer answer(const Config& config, const Sighting& sighting, const Account& account,
              const Membership& membership) {
    Request request;
    request.user_id = sighting.user_id;
    const Gate gate = judge_request(config.settings, request, account, membership, sighting.at);
    if (gate != Gate::if_seat) return {gate, gate == Gate::disabled};
    const bool seat_decides = needs_seat(config.settings, account, membership) &&
                              judge_sighting(config.settings, sighting.user_id, account, membership,
                                             sighting.at) == Outcome::joined;
    return {gate, !seat_decides && full(config.settings, cohort::count_now(config, sighting.at))};
}

}  // namespace

std::optional<std::string> admit(const Config& config, const Sighting& sighting, const cache::Key& key) {
    if (!can_read_rows(config)) {  // nor can it be written
        Request request;
        request.user_id = sighting.user_id;
        auto body = check(config, request, sighting.at);
        if (!body && recording(config.settings)) defer(&sighting, 1);
        return body;
    }
    Answer given;
    Outcome outcome = Outcome::unchanged;
    if (recording(config.settings) && !RecoveryInProgress() && can_write_rows(config)) {
        std::vector<Step> steps{Step{{&sighting, &sighting + 1, key, &outcome}}};
        const RecordOptions options;
        Slice slice(config, steps, options);
        slice.record([&](const Step& step) {
            Membership membership = step.found.membership;
            take_for_member(step.found.rows, sighting.at, membership);
            given = answer(config, sighting, step.found.account, membership);
            return !given.blocked;
        });
        // A step that met a lock has not asked for a seat, so the number of members decides.
        if (!given.blocked && given.gate == Gate::if_seat)
            given.blocked =
                outcome == Outcome::full || (steps[0].decision.basis == Basis::uncertain &&
                                             full(config.settings, cohort::count_now(config, sighting.at)));
        if (!given.blocked) slice.append_deferred();  // a refused user does not come in later
        slice.release();
    } else {
        const Known known = look_up(config, sighting.user_id, sighting.at, false);
        given = answer(config, sighting, known.account, known.membership);
        given.blocked = given.blocked || (given.gate == Gate::if_seat &&
                                          full(config.settings, cohort::count_now(config, sighting.at)));
        if (!given.blocked && recording(config.settings)) defer(&sighting, 1);
    }
    if (!given.blocked) return std::nullopt;
    seats::count_blocked(given.gate == Gate::disabled);
    return error_body(config.settings, given.gate);
}

std::optional<std::string> check(const Config& config, const Request& request, Instant at, Trace* trace) {
    const bool readable = trace || can_read_rows(config);  // mau.explain may wait for locks
    Known known;
    if (request.user_id && readable)
        known = look_up(config, *request.user_id, at, false);
    else if (request.user_id)
        known.account = config::account(config, *request.user_id, pg::Found());
    const Gate gate = judge_request(config.settings, request, known.account, known.membership, at, trace);
    if (gate == Gate::open) return std::nullopt;
    if (gate == Gate::if_seat) {
        if (!readable) return std::nullopt;  // may be a member: a lock on mau's tables blocks no user
        const std::int64_t count = cohort::count_now(config, at);
        const bool is_full = full(config.settings, count);
        if (trace)
            trace->rule("server is full", is_full,
                        std::to_string(count) + " of " + std::to_string(config.settings.max_mau_value) +
                            " monthly active users");
        if (!is_full) return std::nullopt;
    }
    if (!trace) seats::count_blocked(gate == Gate::disabled);
    return error_body(config.settings, gate);
}

void explain(const Config& config, std::string_view user_id, Instant at, Trace& trace) {
    const Known known = look_up(config, user_id, at, true);
    const std::string service(config::service(known.account));
    trace.rule("registered account", known.account.registered,
               (known.account.registered ? "service " : "never registered here; service ") + service);
    const Outcome outcome =
        judge_sighting(config.settings, user_id, known.account, known.membership, at, &trace);
    Request request;
    request.user_id = user_id;
    const auto body = check(config, request, at, &trace);
    const bool counts = known.membership.holds(at) && counted(known.account);
    const bool is_full = outcome == Outcome::joined &&
                         needs_seat(config.settings, known.account, known.membership) &&
                         full(config.settings, cohort::count_now(config, at));
    trace.rule("verdict", counts,
               std::string(counts ? "counts" : "does not count") +
                   "; a sighting now: " + name(is_full ? Outcome::full : outcome) +
                   "; a request now: " + (body ? "blocked" : "goes ahead"));
}

}  // namespace mau::activity
