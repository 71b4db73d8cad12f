#include "activity/slice.hpp"

#include <algorithm>
#include <array>

#include "cohort/seating.hpp"
#include "pg/locks.hpp"
#include "seats/seats.hpp"

namespace mau::activity {

void forbid_read_only() {
    pg::guard([] { PreventCommandIfReadOnly("mau.record_activity()"); });
}

void add_calls(const Sighting* sighting, const Sighting* end, std::vector<deferred::Call>& calls) {
    for (; sighting != end; ++sighting) {
        deferred::Call call;
        call.user_id = sighting->user_id;
        call.at = sighting->at;
        call.platform = sighting->platform;
        call.called_at = sighting->called_at;
        calls.push_back(call);
    }
}

namespace {

/// Puts a sighting off whose user cannot have a seat now, perhaps later. The visits of a new user are marked
/// later, too, because they need the number that comes with the user's row.
void put_off_seat(Step& step, Writes& writes) {
    step.decision = put_off();
    auto& visits = writes.visits_of_new;
    visits.erase(
        std::remove_if(visits.begin(), visits.end(),
                       [&](const history::Visit& visit) { return visit.user_id == step.sighting().user_id; }),
        visits.end());
}

/// Takes seats for the users who would join, in the order of the queue. Without a seat the outcome is `full`.
/// Where expired rows cannot be removed because of another session's lock, the sighting is deferred, as it is
/// for any other lock.
void give_seats(const Config& config, Queue order, std::vector<Step>& steps, cohort::Seating& seating,
                Writes& writes) {
    std::vector<Step*> queue;
    for (Step& step : steps) {
        if (!step.locked || !takes_seat(step.found.account, step.found.membership)) continue;
        // The user of an appservice, who has no seat, becomes a native user.
        const bool moves = step.decision.outcome == Outcome::refreshed &&
                           step.found.rows.member.text(cohort::service) != "native";
        if (moves || step.decision.outcome == Outcome::joined) queue.push_back(&step);
    }
    if (queue.empty()) return;
    if (!config.settings.limit_usage_by_mau)
        return seating.take_unlimited(static_cast<std::int64_t>(queue.size()));
    std::stable_sort(queue.begin(), queue.end(), [&](const Step* a, const Step* b) {
        return order == Queue::first_come ? a->sighting().at < b->sighting().at
                                          : a->sighting().at > b->sighting().at;
    });
    for (Step* const step : queue) {
        const bool has_row = step->decision.outcome == Outcome::joined && step->found.rows.member.exists;
        const cohort::Seat seat = seating.take(step->sighting().user_id, step->sighting().at, has_row);
        if (seat == cohort::Seat::full) step->decision = without_seat(step->decision);
        if (seat == cohort::Seat::met_locks) put_off_seat(*step, writes);
    }
}

/// Announces to the counters which rows of the cohort the statements have inserted or moved to another
/// service. A row may have changed since it was read: reap removes rows, and inserts those of reserved users,
/// without the users' locks.
void announce_rows(const Config& config, const std::vector<Step>& steps, const Writes& writes) {
    std::size_t next = 0;
    for (const Step& step : steps) {
        const Outcome outcome = step.decision.outcome;
        if (step.decision.basis == Basis::uncertain || step.written ||
            (outcome != Outcome::joined && outcome != Outcome::refreshed))
            continue;
        const std::string_view service = config::service(step.found.account);
        const pg::Found& row = step.found.rows.member;
        if (writes.made[next++]) {
            // Reap has removed the member's row since it was read, so the seat may be taken: the statements
            // are rolled back, and the sighting is judged again later.
            if (outcome == Outcome::refreshed && row.text(cohort::service) == service &&
                needs_seat(config.settings, step.found.account, step.found.membership))
                throw Error(sqlstate::serialization_failure, "a member's row has left the cohort");
            seats::add_rows(config, service, 1);
        } else if (row.exists && row.text(cohort::service) != service) {
            seats::add_rows(config, row.text(cohort::service), -1);
            seats::add_rows(config, service, 1);
        }
    }
}

/// Collects the visits of a user's sightings that are not in the history yet. This needs only the user's
/// number, so it is done also while another transaction holds the row: that transaction may mark the same
/// visits, or be rolled back. A sighting that is deferred marks its visits later: by then the user may have
/// been forgotten, and have another number.
Marking plan_visits(const Config& config, const Step& step, Writes& writes) {
    Marking marking{step.found.visited};
    const pg::Found& user = step.found.rows.user;
    const Decision& decision = step.decision;
    if (decision.deferred || decision.outcome == Outcome::off || decision.outcome == Outcome::remote)
        return marking;
    const auto is_marked = [&](const Sighting& sighting) {
        return marking.visited.has(day_of(sighting.at), sighting.platform);
    };
    const Sighting* const end = step.sightings.end;
    if (!std::all_of(step.sightings.newest, end, is_marked)) {
        if ((!user.exists && decision.basis == Basis::uncertain) || !history::can_mark(config)) {
            marking.deferred = true;
            return marking;
        }
        const std::int64_t number = user.exists ? user.integer(config::users::user_no) : history::kNoNumber;
        std::vector<history::Visit>& visits = user.exists ? writes.visits : writes.visits_of_new;
        const std::string_view service = config::service(step.found.account);
        for (const Sighting* sighting = step.sightings.newest; sighting != end; ++sighting) {
            if (is_marked(*sighting)) continue;
            const Day day = day_of(sighting->at);
            visits.push_back({number, sighting->user_id, day, sighting->platform, service});
            marking.visited.add(day, sighting->platform);
        }
    }
    marking.marked = true;
    return marking;
}

/// How far a row got without a statement.
enum class InPlace { impossible, done, held_by_other };

/// Updates the row that was just found in place, if that takes neither a seat nor a statement.
InPlace write_in_place(const Config& config, Looker& looker, const Step& step) {
    const Sighting& sighting = step.sighting();
    const Decision& decision = step.decision;
    const UserRows& rows = step.found.rows;
    std::array<pg::Change, 3> changes;
    int count = 0;
    auto change = [&](int column, Datum value) {
        changes[static_cast<std::size_t>(count++)] = {column, value};
    };
    if (decision.target == Target::member && looker.members_change() && rows.member.exists &&
        rows.user.exists && decision.outcome != Outcome::joined) {
        if (decision.outcome == Outcome::refreshed) {
            if (rows.member.text(cohort::service) != config::service(step.found.account))
                return InPlace::impossible;
            change(cohort::timestamp, Int64GetDatum(sighting.at));
            if (sighting.at - rows.member.integer(cohort::renewed) > cohort::kRenewal)
                change(cohort::renewed, Int64GetDatum(sighting.at));
        }
        if (step.visited_changes()) change(cohort::visited, Int32GetDatum(step.marking.visited.stored()));
        if (count > 0) forbid_read_only();
        return count == 0 || looker.change_member(changes.data(), count) ? InPlace::done
                                                                         : InPlace::held_by_other;
    }
    if (decision.target == Target::user && looker.users_change() && rows.user.exists &&
        !rows.user.in_flight) {
        if (must_update_last_seen(config, sighting, rows.user))
            change(config::users::last_seen, Int64GetDatum(sighting.at));
        if (step.visited_changes())
            change(config::users::visited, Int32GetDatum(step.marking.visited.stored()));
        if (count > 0) forbid_read_only();
        // The first update in a session opens all indexes of the table.
        return count == 0 || (pg::try_lock_with_indexes(config.users_table, RowExclusiveLock) &&
                              looker.change_user(changes.data(), count))
                   ? InPlace::done
                   : InPlace::held_by_other;
    }
    return InPlace::impossible;
}

/// Collects the writes that need a statement.
void plan(const Config& config, const std::vector<Step>& steps, Writes& writes) {
    for (const Step& step : steps) {
        const Sighting& sighting = step.sighting();
        const pg::Found& user = step.found.rows.user;
        const history::Visited& visited = step.marking.visited;
        switch (step.written ? Target::none : step.decision.target) {
            case Target::none:
                break;
            case Target::member:
                // A member may have no row in mau.users: inserted by reap as reserved, or by an
                // administrator.
                if (!user.exists) writes.newly_known.push_back(sighting.user_id);
                if (step.decision.outcome != Outcome::unchanged)
                    writes.members.push_back({sighting.user_id, sighting.at,
                                              config::service(step.found.account), visited.stored()});
                else if (step.visited_changes())
                    writes.visited_members.add(sighting.user_id, 0, visited);
                break;
            case Target::user:
                if (user.in_flight) break;  // it is deferred, or nothing is to be written
                if (!user.exists)
                    writes.noted_new.add(sighting.user_id, sighting.at, visited);
                else if (must_update_last_seen(config, sighting, user))
                    writes.noted.add(sighting.user_id, sighting.at, visited);
                else if (step.visited_changes())
                    writes.noted.add(sighting.user_id, INT64_MIN, visited);
                break;
        }
    }
}

/// Whether the statements can be made without waiting for a lock on a table, an index or the sequence.
bool can_make(const Config& config, const Writes& writes) {
    const bool draws_numbers = !writes.newly_known.empty() || writes.noted_new.any();
    return pg::try_lock_with_indexes(config.cohort_table, RowExclusiveLock) &&
           pg::try_lock_with_indexes(config.users_table, RowExclusiveLock) &&
           (!draws_numbers || pg::try_table_lock(config.users_sequence, RowExclusiveLock));
}

/// Runs the statements. Returns false if another session has changed a row since it was read, or if a
/// statement would have to wait. `only_ours`: the tables have no triggers of others, which may wait for any
/// lock.
bool make(const Config& config, const std::vector<Step>& steps, Writes& writes, bool only_ours,
          bool is_task) {
    forbid_read_only();
    const auto write = [&] {
        {
            const seats::Announced announced;
            std::optional<pg::NoWaiting> no_waiting;
            if (only_ours) no_waiting.emplace();
            writes.make();
            announce_rows(config, steps, writes);
        }
        history::mark(writes.visits_of_new);
    };
    const auto mark = [&] { history::mark(writes.visits); };
    if (!writes.any()) return mark(), true;
    if (!can_make(config, writes)) return mark(), false;
    const bool runs_only_ours = is_task && only_ours && writes.visits_of_new.empty();
    const pg::Keeps keeps = runs_only_ours ? pg::Keeps::nothing : pg::Keeps::memory;
    // A task raises the error of a trigger that keeps rows from being written: replay finds the user.
    const auto is_put_off = is_task ? pg::is_interference : pg::is_deferrable;
    if (IsolationIsSerializable()) return !pg::attempt([&] { write(), mark(); }, is_put_off, keeps);
    // Rows that were updated in place already say that their visits are marked, so these are marked even if
    // the statements fail. A new user's visits need the number that the statements give: they are marked with
    // the user's row, or not at all.
    const bool done = !pg::attempt(write, is_put_off, keeps);
    mark();
    return done;
}

/// Stores in the cache the members whose next sightings change nothing, until the granularity or the day
/// ends.
void remember(const Config& config, const std::vector<Step>& steps) {
    if (config.settings.hs_disabled) return;                        // a hit also says that requests go ahead
    if (config.generation != cache::settings_generation()) return;  // keys may have been made after a change
    for (const Step& step : steps) {
        if (step.decision.basis != Basis::certain) continue;
        const Instant at = step.sighting().at;
        Instant last_seen = at;
        if (step.decision.outcome == Outcome::unchanged)
            last_seen = *step.found.membership.last_seen;
        else if (step.decision.outcome != Outcome::joined && step.decision.outcome != Outcome::refreshed)
            continue;
        const Instant end_of_day = (at / kDay + 1) * kDay - 1;
        unsigned clients = step.marking.visited.clients(day_of(at));
        if (step.marking.marked) clients |= client_of(step.sighting().platform);
        cache::remember(step.sightings.key, at,
                        std::min(last_seen + config.settings.last_seen_granularity, end_of_day), clients);
    }
}

}  // namespace

Slice::Slice(const Config& config, std::vector<Step>& steps, const RecordOptions& options)
    : config_(config), steps_(steps), options_(options) {
    for (Step& step : steps_) {
        step.lock = pg::hash(step.sighting().user_id);
        step.locked = pg::try_lock(pg::LockSpace::user, step.lock);
    }
}

void Slice::record(const std::function<bool(const Step&)>& may_go_on) {
    Writes writes;
    Looker looker(config_);
    looker.prepare_updates();
    for (Step& step : steps_) {
        step.found = find(config_, looker, step.sighting());
        step.decision = decide(config_, step.sighting(), step.found, step.locked, options_);
        step.marking.visited = step.found.visited;
        if (may_go_on && !may_go_on(step)) {
            step.decision = Decision();  // nothing is written for this user
            continue;
        }
        if (options_.visits) step.marking = plan_visits(config_, step, writes);
        const InPlace in_place = write_in_place(config_, looker, step);
        step.written = in_place == InPlace::done;
        if (in_place == InPlace::held_by_other) step.decision = put_off();
    }
    looker.close();
    const bool only_ours = looker.members_change() && looker.users_change();

    cohort::Seating seating(config_, only_ours);
    give_seats(config_, options_.queue, steps_, seating, writes);
    plan(config_, steps_, writes);
    const bool written = (!writes.any() && writes.visits.empty()) ||
                         make(config_, steps_, writes, only_ours, options_.is_task);
    // In SERIALIZABLE the subtransaction also has the visits of the other users.
    if (!written)
        for (Step& step : steps_)
            if (!step.written &&
                (step.decision.target != Target::none || (step.marking.marked && IsolationIsSerializable())))
                step.decision = put_off();
    seating.done(written);
    remember(config_, steps_);
    for (const Step& step : steps_) *step.sightings.outcome = step.decision.outcome;
}

void Slice::release() {
    for (const Step& step : steps_)
        if (step.locked) pg::release_lock(pg::LockSpace::user, step.lock);
}

std::int64_t Slice::append_deferred() const {
    std::vector<deferred::Call> calls;
    for (const Step& step : steps_)
        if (step.deferred()) add_calls(step.sightings.newest, step.sightings.end, calls);
    deferred::append(calls, options_.is_task ? deferred::WhenLocked::raise : deferred::WhenLocked::warn);
    return static_cast<std::int64_t>(calls.size());
}

}  // namespace mau::activity
