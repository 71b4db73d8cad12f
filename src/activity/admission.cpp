#include "activity/activity.hpp"

#include <algorithm>

#include "activity/chunk.hpp"
#include "pg/values.hpp"
#include "seats/seats.hpp"

namespace mau::activity {

namespace {

/// What is known of a request's user: the account, and whether the user is in the cohort.
struct Known {
    Rows rows;
    Account account;
    Membership membership;
};

/// A row in flight is an admission under way.
void take_for_member(const Rows& rows, Instant at, Membership& membership) {
    if (!rows.member.exists && rows.member.in_flight) membership.last_seen = at;
}

Known look_up(const World& world, std::string_view user_id, Instant at, bool always_reserved) {
    Known known;
    Looker looker(world);
    known.rows = looker.find(user_id);
    looker.close();
    known.account = directory::account(world, user_id, known.rows.user);
    known.membership = membership_of(known.rows.member);
    take_for_member(known.rows, at, known.membership);
    if (!world.reserved.empty() && (always_reserved || !known.membership.holds(at)))
        known.membership.reserved = directory::is_reserved_user(world, user_id);
    return known;
}

/// The answer to a request that is to be recorded, too: a newcomer is blocked by the seat that is not there,
/// not by a count beforehand.
struct Answer {
    Gate gate = Gate::open;
    bool blocked = false;
};

Answer answer(const World& world, const Sighting& sighting, const Account& account,
              const Membership& membership) {
    Request request;
    request.user_id = sighting.user_id;
    const Gate gate = judge_request(world.settings, request, account, membership, sighting.at);
    if (gate != Gate::if_seat) return {gate, gate == Gate::disabled};
    const bool seat_decides =
        needs_seat(world.settings, account, membership) &&
        judge_sighting(world.settings, sighting.user_id, account, membership, sighting.at) == Outcome::joined;
    return {gate, !seat_decides && full(world.settings, cohort::count_now(world, sighting.at))};
}

}  // namespace

std::optional<std::string> admit(const World& world, const Sighting& sighting, const seen::Key& key) {
    if (!can_read_rows(world)) {  // nor can it be written
        Request request;
        request.user_id = sighting.user_id;
        auto body = check(world, request, sighting.at);
        if (!body && recording(world.settings)) defer(&sighting, 1);
        return body;
    }
    Answer given;
    Outcome outcome = Outcome::unchanged;
    if (recording(world.settings) && !RecoveryInProgress() && can_write_rows(world)) {
        std::vector<Step> steps{step_of(&sighting, &sighting + 1, &outcome, key)};
        const How how;
        Chunk chunk(world, steps, how);
        chunk.record([&](const Step& step) {
            Membership membership = step.membership;
            take_for_member(step.rows, sighting.at, membership);
            given = answer(world, sighting, step.account, membership);
            return !given.blocked;
        });
        chunk.release();
    } else {
        const Known known = look_up(world, sighting.user_id, sighting.at, false);
        given = answer(world, sighting, known.account, known.membership);
        if (!given.blocked && recording(world.settings)) defer(&sighting, 1);
    }
    if (given.blocked || (given.gate == Gate::if_seat && outcome == Outcome::full))
        return error_body(world.settings, given.gate);
    return std::nullopt;
}

std::optional<std::string> check(const World& world, const Request& request, Instant at, Trace* trace) {
    const bool readable = trace || can_read_rows(world);  // whoever wants an explanation waits for it
    Known known;
    if (request.user_id && readable)
        known = look_up(world, *request.user_id, at, false);
    else if (request.user_id)
        known.account = directory::account(world, *request.user_id, pg::Found());
    const Gate gate = judge_request(world.settings, request, known.account, known.membership, at, trace);
    if (gate == Gate::open) return std::nullopt;
    if (gate == Gate::if_seat) {
        if (!readable) return std::nullopt;  // perhaps a member: nobody is kept out for a lock of ours
        const std::int64_t count = cohort::count_now(world, at);
        const bool is_full = full(world.settings, count);
        if (trace)
            trace->rule("server is full", is_full,
                        std::to_string(count) + " of " + std::to_string(world.settings.max_mau_value) +
                            " monthly active users");
        if (!is_full) return std::nullopt;
    }
    return error_body(world.settings, gate);
}

void explain(const World& world, std::string_view user_id, Instant at, Trace& trace) {
    const Known known = look_up(world, user_id, at, true);
    const std::string service(directory::service(known.account));
    trace.rule("registered account", known.account.registered,
               (known.account.registered ? "service " : "never registered here; service ") + service);
    const Outcome outcome =
        judge_sighting(world.settings, user_id, known.account, known.membership, at, &trace);
    Request request;
    request.user_id = user_id;
    const auto body = check(world, request, at, &trace);
    const bool counts = known.membership.holds(at) && counted(known.account);
    const bool is_full = outcome == Outcome::joined &&
                         needs_seat(world.settings, known.account, known.membership) &&
                         full(world.settings, cohort::count_now(world, at));
    trace.rule("verdict", counts,
               std::string(counts ? "counts" : "does not count") +
                   "; a sighting now: " + name(is_full ? Outcome::full : outcome) +
                   "; a request now: " + (body ? "blocked" : "goes ahead"));
}

}  // namespace mau::activity
