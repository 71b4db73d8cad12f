#include "activity/activity.hpp"

#include <algorithm>
#include <array>
#include <tuple>

#include "activity/rows.hpp"
#include "activity/deferred.hpp"
#include "pg/values.hpp"
#include "cohort/seating.hpp"
#include "seats/seats.hpp"

namespace mau::activity {

namespace {

/// One user of a chunk on the way from look to write.
struct Step {
    const Sighting* sighting = nullptr;  // the newest
    const Sighting* end = nullptr;       // of the user's sightings
    Outcome* outcome = nullptr;
    std::uint64_t lock = 0;
    bool locked = false;
    bool past = false;      // before the horizon: kept as last seen only
    bool sure = false;      // judged on rows that nobody else has in flight
    bool vouched = false;   // the cache vouches for the account: its row was not looked at
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

/// Whether all that could be asked of the user's row is known: the account is a member's as it was when the
/// cache wrote it down (once out of trial, nobody comes back to it), the member holds, and
/// the visits are marked.
bool needs_no_user(const Step& step, const pg::Found& member) {
    if (!step.locked || !member.exists || member.in_flight) return false;
    const Instant at = step.sighting->at;
    if (!membership_of(member).holds(at)) return false;
    const history::Visited visited(member.int4(cohort::visited));
    for (const Sighting* sighting = step.sighting; sighting != step.end; ++sighting)
        if (!visited.has(day_of(sighting->at), sighting->platform)) return false;
    return seen::vouches(step.key, at);
}

/// Reads the rows for what they say of the user.
void understand(const World& world, Step& step) {
    const Sighting& sighting = *step.sighting;
    if (step.vouched) {
        step.account.registered = true;
        step.account.appservice = step.rows.member.text(cohort::service);
        if (step.account.appservice == "native") step.account.appservice = {};
    } else {
        step.account = directory::account(world, sighting.user_id, step.rows.user);
    }
    step.membership = membership_of(step.rows.member);
    // Who is reserved matters only to a user without a row that holds by itself.
    if (!world.reserved.empty() && !step.membership.holds(sighting.at))
        step.membership.reserved = directory::is_reserved_user(world, sighting.user_id);
    step.visited = visited_of(step.rows);
}

/// Whether a sighting outside the cohort is news enough to be written.
bool is_news(const World& world, const Step& step) {
    if (!step.rows.user.exists || step.rows.user.is_null(directory::users::last_seen)) return true;
    return step.sighting->at - step.rows.user.integer(directory::users::last_seen) >
           world.settings.last_seen_granularity;
}

/// Where the last sighting of a user belongs who met with an outcome.
enum class Place { nowhere, member, user };

Place place_of(Outcome outcome) {
    switch (outcome) {
        case Outcome::joined:
        case Outcome::refreshed:
        case Outcome::unchanged:
            return Place::member;
        case Outcome::remote:
        case Outcome::off:
            return Place::nowhere;
        case Outcome::guest:
        case Outcome::trial:
        case Outcome::support:
        case Outcome::appservice:
        case Outcome::deactivated:
        case Outcome::full:
            break;
    }
    return Place::user;
}

Place place_of(const Step& step) {
    if (!step.sure) return Place::nowhere;
    return step.past ? Place::user : place_of(*step.outcome);
}

/// Judges by the rows. What another transaction has in flight is left alone: a sighting that says more than
/// what is committed is recorded later, because that transaction may be undone.
void judge(const World& world, Step& step, const How& how) {
    const Sighting& sighting = *step.sighting;
    *step.outcome =
        judge_sighting(world.settings, sighting.user_id, step.account, step.membership, sighting.at);
    if (!step.locked || step.rows.member.in_flight || (step.rows.user.in_flight && !step.rows.user.exists)) {
        const Place place = place_of(*step.outcome);
        step.deferred = (place == Place::member && *step.outcome != Outcome::unchanged) ||
                        (place == Place::user && is_news(world, step));
        if (place != Place::nowhere) *step.outcome = Outcome::unchanged;
        return;
    }
    step.sure = true;
    const pg::Found& user = step.rows.user;
    const bool known = !how.judge_known && user.exists && !user.is_null(directory::users::last_seen) &&
                       user.integer(directory::users::last_seen) >= sighting.at;
    step.past = (sighting.at < how.horizon || known) && *step.outcome == Outcome::joined;
    if (step.past) *step.outcome = Outcome::unchanged;
}

/// Gives out seats to those who would join, in the order of the queue; the outcome of the others is `full`.
void give_seats(const World& world, Queue order, std::vector<Step>& steps, cohort::Seating& seating) {
    std::vector<Step*> queue;
    for (Step& step : steps) {
        if (!step.locked || !takes_seat(step.account, step.membership)) continue;
        // An appservice's row, which took no seat, becomes a native's.
        const bool moves =
            *step.outcome == Outcome::refreshed && step.rows.member.text(cohort::service) != "native";
        if (moves || *step.outcome == Outcome::joined) queue.push_back(&step);
    }
    if (queue.empty()) return;
    if (!world.settings.limit_usage_by_mau)
        return seating.take_unlimited(static_cast<std::int64_t>(queue.size()));
    std::stable_sort(queue.begin(), queue.end(), [&](const Step* a, const Step* b) {
        return order == Queue::first_come ? a->sighting->at < b->sighting->at
                                          : a->sighting->at > b->sighting->at;
    });
    for (Step* const step : queue) {
        const bool has_row = *step->outcome == Outcome::joined && step->rows.member.exists;
        if (!seating.take(step->sighting->user_id, step->sighting->at, has_row))
            *step->outcome = Outcome::full;
    }
}

/// Tells the counters what the writes have done to the cohort's rows. What was looked at may not be what was
/// written to: the reaper takes rows out, and seats the reserved, without asking for the users' locks.
void tell_seats(const World& world, const std::vector<Step>& steps, const Writes& writes) {
    if (!seats::enabled()) return;
    std::size_t next = 0;
    for (const Step& step : steps) {
        if (!step.sure || step.written ||
            (*step.outcome != Outcome::joined && *step.outcome != Outcome::refreshed))
            continue;
        const std::string_view service = directory::service(step.account);
        const pg::Found& row = step.rows.member;
        if (writes.made[next++]) {
            seats::add_rows(world, service, 1);
        } else if (row.exists && row.text(cohort::service) != service) {
            seats::add_rows(world, row.text(cohort::service), -1);
            seats::add_rows(world, service, 1);
        }
    }
}

/// The visits of a user's sightings that are not in the history yet. They are marked also where the row is
/// somebody else's now, who may mark them, too, or may be undone; only a number is needed.
void plan_visits(const World& world, Step& step, std::vector<history::Visit>& visits) {
    const pg::Found& user = step.rows.user;
    if (*step.outcome == Outcome::off || *step.outcome == Outcome::remote) return;
    const auto is_marked = [&](const Sighting& sighting) {
        return step.visited.has(day_of(sighting.at), sighting.platform);
    };
    if (!std::all_of(step.sighting, step.end, is_marked)) {
        if ((!user.exists && !step.sure) || !history::can_mark(world)) {
            step.deferred = true;
            return;
        }
        const std::int64_t number =
            user.exists ? user.integer(directory::users::user_no) : history::kNoNumber;
        const std::string_view service = directory::service(step.account);
        const std::int32_t before = step.visited.stored();
        for (const Sighting* sighting = step.sighting; sighting != step.end; ++sighting) {
            if (is_marked(*sighting)) continue;
            const Day day = day_of(sighting->at);
            visits.push_back({number, sighting->user_id, day, sighting->platform, service});
            step.visited.add(day, sighting->platform);
        }
        step.visited_changes = step.visited.stored() != before;
    }
    step.marked = true;
}

/// Leaves a user alone; nothing is written.
void leave_alone(Step& step) {
    *step.outcome = Outcome::unchanged;
    step.sure = false;
}

/// Another session changed the rows after our look, or holds a lock on a relation that we write.
void defer(Step& step) {
    leave_alone(step);
    step.deferred = true;
}

void forbid_read_only() {
    pg::guard([] { PreventCommandIfReadOnly("mau.record_activity()"); });
}

/// Writes a sighting to the row that was just found, where it takes no seat and no statement.
void write_to_row(const World& world, Looker& looker, Step& step) {
    const Instant at = step.sighting->at;
    std::array<pg::Change, 3> changes;
    int count = 0;
    auto change = [&](int column, Datum value) {
        changes[static_cast<std::size_t>(count++)] = {column, value};
    };
    const Place place = place_of(step);
    const pg::Found& member = step.rows.member;
    if (place == Place::member && looker.members_change() && member.exists &&
        (step.rows.user.exists || step.vouched) && *step.outcome != Outcome::joined) {
        if (*step.outcome == Outcome::refreshed) {
            if (member.text(cohort::service) != directory::service(step.account)) return;
            change(cohort::timestamp, Int64GetDatum(at));
            if (at - member.integer(cohort::renewed) > cohort::kRenewal)
                change(cohort::renewed, Int64GetDatum(at));
        }
        if (step.visited_changes) change(cohort::visited, Int32GetDatum(step.visited.stored()));
        if (count > 0) forbid_read_only();
        if (count > 0 && !looker.change_member(changes.data(), count)) return defer(step);
        step.written = true;
    } else if (place == Place::user && looker.users_change() && step.rows.user.exists &&
               !step.rows.user.in_flight) {
        if (is_news(world, step)) change(directory::users::last_seen, Int64GetDatum(at));
        if (step.visited_changes) change(directory::users::visited, Int32GetDatum(step.visited.stored()));
        if (count > 0) forbid_read_only();
        // The first change of a table's row in a session looks at all its indexes.
        if (count > 0 && !(pg::try_lock_with_indexes(world.users_table, RowExclusiveLock) &&
                           looker.change_user(changes.data(), count)))
            return defer(step);
        step.written = true;
    }
}

/// Plans what is left to be written.
void plan(const World& world, std::vector<Step>& steps, Writes& writes) {
    for (Step& step : steps) {
        const Sighting& sighting = *step.sighting;
        const bool known = step.rows.user.exists || step.vouched;
        switch (step.written ? Place::nowhere : place_of(step)) {
            case Place::nowhere:
                break;
            case Place::member:
                // Also a member without a row in mau.users: seated, or put there by hand.
                if (!known) writes.newly_known.push_back(sighting.user_id);
                if (*step.outcome != Outcome::unchanged)
                    writes.members.push_back({sighting.user_id, sighting.at, directory::service(step.account),
                                              step.visited.stored()});
                else if (step.visited_changes)
                    writes.visited_members.add(sighting.user_id, 0, step.visited);
                break;
            case Place::user:
                if (step.rows.user.in_flight) {
                    step.deferred = step.deferred || is_news(world, step);
                    break;
                }
                if (!known)
                    writes.noted_new.add(sighting.user_id, sighting.at, step.visited);
                else if (is_news(world, step))
                    writes.noted.add(sighting.user_id, sighting.at, step.visited);
                else if (step.visited_changes)
                    writes.noted.add(sighting.user_id, INT64_MIN, step.visited);
                break;
        }
    }
}

/// Whether the statements can be made without waiting for a lock on a table, an index or the sequence.
bool can_make(const World& world, const Writes& writes) {
    const bool draws_numbers = !writes.newly_known.empty() || writes.noted_new.any();
    return pg::try_lock_with_indexes(world.cohort_table, RowExclusiveLock) &&
           pg::try_lock_with_indexes(world.users_table, RowExclusiveLock) &&
           (!draws_numbers || pg::try_table_lock(world.users_sequence, RowExclusiveLock));
}

/// Makes the writes; answers false if a row that we took for free was changed under us, or if the statements
/// would have to wait. `only_ours`: nobody else has a trigger there, which may wait for what it likes.
bool make(const World& world, const std::vector<Step>& steps, Writes& writes, bool only_ours) {
    forbid_read_only();
    auto write = [&] {
        const seats::ToldAbout told;
        std::optional<pg::NoWaiting> no_waiting;
        if (only_ours) no_waiting.emplace();
        writes.make();
        tell_seats(world, steps, writes);
    };
    auto mark = [&] {
        if (!writes.visits.empty()) history::mark(world, writes.visits);
    };
    if (writes.any() && !can_make(world, writes)) {
        const auto nameless = [](const history::Visit& visit) { return visit.user_no == history::kNoNumber; };
        writes.visits.erase(std::remove_if(writes.visits.begin(), writes.visits.end(), nameless),
                            writes.visits.end());
        mark();
        return false;
    }
    if (!writes.any()) {
        mark();
        return true;
    }
    if (IsolationIsSerializable()) return !pg::attempt([&] { write(), mark(); }, pg::is_interference);
    // Rows that are written already say that their visits are marked, so these stay whatever becomes of the
    // others.
    const bool done = !pg::attempt(write, pg::is_interference);
    mark();
    return done;
}

/// Remembers whom nothing can change for a while: members, until the granularity or the day ends.
void remember(const World& world, const std::vector<Step>& steps) {
    if (world.settings.hs_disabled) return;                       // a hit also says that requests go ahead
    if (world.generation != seen::settings_generation()) return;  // keys may have been made after a change
    for (const Step& step : steps) {
        if (!step.sure || step.past) continue;
        const Instant at = step.sighting->at;
        Instant last_seen = at;
        if (*step.outcome == Outcome::unchanged)
            last_seen = *step.membership.last_seen;
        else if (*step.outcome != Outcome::joined && *step.outcome != Outcome::refreshed)
            continue;
        const Instant end_of_day = (at / kDay + 1) * kDay - 1;
        unsigned clients = step.visited.clients(day_of(at));
        if (step.marked) clients |= client_of(step.sighting->platform);
        seen::remember(step.key, at, std::min(last_seen + world.settings.last_seen_granularity, end_of_day),
                       clients);
    }
}

void add_calls(const Sighting* sighting, const Sighting* end, std::vector<deferred::Call>& calls) {
    for (; sighting != end; ++sighting) {
        deferred::Call call;
        call.user_id = sighting->user_id;
        call.at = sighting->at;
        call.platform = sighting->platform;
        calls.push_back(call);
    }
}

/// Looks at the users of a chunk, under their locks, and judges.
class Chunk {
  public:
    Chunk(const World& world, std::vector<Step>& steps, const How& how)
        : world_(world), steps_(steps), how_(how) {
        for (Step& step : steps_) {
            step.lock = pg::hash(step.sighting->user_id);
            step.locked = pg::try_lock(pg::LockSpace::user, step.lock);
        }
    }

    /// `may_go_on` is asked of each before anything is written for it.
    template <class Ask>
    void record(Ask&& may_go_on) {
        Writes writes;
        Looker looker(world_);
        looker.prepare_updates();
        for (Step& step : steps_) {
            step.rows = looker.find(step.sighting->user_id, [&](const pg::Found& member) {
                step.vouched = needs_no_user(step, member);
                return !step.vouched;
            });
            understand(world_, step);
            judge(world_, step, how_);
            if (!may_go_on(step)) {
                leave_alone(step);
                step.deferred = false;
                continue;
            }
            if (how_.visits) plan_visits(world_, step, writes.visits);
            write_to_row(world_, looker, step);
        }
        looker.close();
        const bool only_ours = looker.members_change() && looker.users_change();

        cohort::Seating seating(world_);
        give_seats(world_, how_.queue, steps_, seating);
        plan(world_, steps_, writes);
        const bool written =
            (!writes.any() && writes.visits.empty()) || make(world_, steps_, writes, only_ours);
        if (!written)
            for (Step& step : steps_)
                if (!step.written && place_of(step) != Place::nowhere) defer(step);
        seating.done(written);
        remember(world_, steps_);
    }

    /// Keeps what of the sightings is left to be recorded later.
    void append_deferred() const {
        std::vector<deferred::Call> calls;
        for (const Step& step : steps_)
            if (step.deferred) add_calls(step.sighting, step.end, calls);
        deferred::append(calls);
    }

    void release() {
        for (const Step& step : steps_)
            if (step.locked) pg::release_lock(pg::LockSpace::user, step.lock);
    }

  private:
    const World& world_;
    std::vector<Step>& steps_;
    const How& how_;
};

void record_chunk(const World& world, std::vector<Step>& steps, const How& how) {
    Chunk chunk(world, steps, how);
    chunk.record([](const Step&) { return true; });
    chunk.append_deferred();
    chunk.release();
}

/// Whether what decides about a user can be read without waiting for somebody's ALTER, TRUNCATE or REINDEX,
/// and is there: with the locks taken, no index can be dropped any more.
bool can_read(const World& world) {
    return pg::try_read_lock(world.cohort_table) && pg::try_read_lock(world.users_table) &&
           OidIsValid(world.cohort_index) && OidIsValid(world.users_index) &&
           (world.reserved.empty() || pg::try_read_lock(world.threepids_table)) &&
           directory::is_latest(world);
}

/// Likewise for what a sighting writes.
bool can_write(const World& world) {
    // An index alone is locked by ALTER INDEX … SET TABLESPACE.
    return pg::try_table_lock(world.cohort_table, RowExclusiveLock) &&
           pg::try_table_lock(world.users_table, RowExclusiveLock) &&
           pg::try_table_lock(world.cohort_index, RowExclusiveLock) &&
           pg::try_table_lock(world.users_index, RowExclusiveLock) &&
           (!OidIsValid(world.cohort_by_time) ||
            pg::try_table_lock(world.cohort_by_time, RowExclusiveLock)) &&
           (world.reserved.empty() ||
            (pg::try_read_lock(world.threepids_table) && pg::try_read_lock(world.users_table))) &&
           directory::is_latest(world);
}

}  // namespace

void sort_newest(std::vector<Sighting>& sightings) {
    auto same = [](const Sighting& a, const Sighting& b) {
        return a.user_id == b.user_id && a.platform == b.platform && day_of(a.at) == day_of(b.at);
    };
    std::sort(sightings.begin(), sightings.end(), [](const Sighting& a, const Sighting& b) {
        if (a.user_id != b.user_id) return a.user_id < b.user_id;
        return a.at != b.at ? a.at > b.at : a.platform < b.platform;
    });
    auto end = sightings.begin();
    for (const Sighting& sighting : sightings) {
        bool again = false;
        for (auto kept = end; !again && kept != sightings.begin();) {
            --kept;
            if (kept->user_id != sighting.user_id || day_of(kept->at) != day_of(sighting.at)) break;
            again = same(*kept, sighting);
        }
        if (!again) *end++ = sighting;
    }
    sightings.erase(end, sightings.end());
}

namespace {

/// Whether sightings can be recorded now. Where they never can be, on a standby, that is an error.
bool can_record(const World& world) {
    if (!recording(world.settings)) return false;
    if (RecoveryInProgress()) forbid_read_only();
    return !RecoveryInProgress() && can_write(world);
}

Step step_of(const Sighting* sightings, const Sighting* end, Outcome* outcome, const seen::Key& key) {
    Step step;
    step.sighting = sightings;
    step.end = end;
    step.outcome = outcome;
    step.key = key;
    return step;
}

}  // namespace

void defer(const Sighting* sightings, std::size_t count) {
    if (RecoveryInProgress()) forbid_read_only();
    std::vector<deferred::Call> calls;
    add_calls(sightings, sightings + count, calls);
    deferred::append(calls);
}

void hold_back(const World& world, Sighting* sightings, std::size_t count) {
    if (!world.settings.limit_usage_by_mau) return;
    const Instant now = pg::to_instant(GetCurrentTimestamp());
    std::int64_t ahead = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (sightings[i].at <= now + kAhead) continue;
        sightings[i].at = now;
        ++ahead;
    }
    if (ahead > 0) seats::count_ahead(ahead);
}

std::size_t leave_news(std::vector<Sighting>& sightings) {
    std::vector<seen::Key> all, news;
    all.reserve(sightings.size());
    auto end = sightings.begin();
    const auto unique = [](std::vector<seen::Key>& keys) {
        auto words = [](const seen::Key& key) { return std::tie(key.first, key.second); };
        std::sort(keys.begin(), keys.end(),
                  [&](const seen::Key& a, const seen::Key& b) { return words(a) < words(b); });
        return std::unique(keys.begin(), keys.end(),
                           [&](const seen::Key& a, const seen::Key& b) { return words(a) == words(b); }) -
               keys.begin();
    };
    for (const Sighting& sighting : sightings) {
        const seen::Key key = seen::key_of(sighting.user_id);
        if (!key.usable) return 0;
        all.push_back(key);
        if (seen::hit(key, sighting.at, client_of(sighting.platform), false)) continue;
        news.push_back(key);
        *end++ = sighting;
    }
    sightings.erase(end, sightings.end());
    return static_cast<std::size_t>(unique(all) - unique(news));
}

std::size_t record(const World& world, const Sighting* sightings, std::size_t count, Outcome* outcomes,
                   const How& how) {
    const Outcome otherwise = recording(world.settings) ? Outcome::unchanged : Outcome::off;
    const bool possible = can_record(world);
    std::size_t users = 0;
    std::vector<Step> steps;
    if (!possible && recording(world.settings)) defer(sightings, count);
    pg::Scratch scratch;
    for (const Sighting *sighting = sightings, *end = sightings + count; sighting != end; ++users) {
        const Sighting* const newest = sighting;
        const seen::Key key = possible ? seen::key_of(newest->user_id) : seen::Key();
        bool news = false;
        for (; sighting != end && sighting->user_id == newest->user_id; ++sighting)
            news = news || (possible && !seen::hit(key, sighting->at, client_of(sighting->platform)));
        outcomes[users] = otherwise;
        if (news) {
            if (steps.empty()) steps.reserve(std::min(kChunk, count));
            steps.push_back(step_of(newest, sighting, &outcomes[users], key));
        }
        if (steps.size() == kChunk || (sighting == end && !steps.empty())) {
            scratch.run([&] { record_chunk(world, steps, how); });
            steps.clear();
            scratch.reset();
        }
    }
    scratch.close();
    return users;
}

Outcome record(const World& world, const Sighting& sighting, const seen::Key& key) {
    if (!recording(world.settings)) return Outcome::off;
    Outcome outcome = Outcome::unchanged;
    if (!can_record(world)) {
        defer(&sighting, 1);
        return outcome;
    }
    std::vector<Step> steps{step_of(&sighting, &sighting + 1, &outcome, key)};
    record_chunk(world, steps, How());
    return outcome;
}

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
    if (!can_read(world)) {  // nor can it be written
        Request request;
        request.user_id = sighting.user_id;
        auto body = check(world, request, sighting.at);
        if (!body && recording(world.settings)) defer(&sighting, 1);
        return body;
    }
    Answer given;
    Outcome outcome = Outcome::unchanged;
    if (recording(world.settings) && !RecoveryInProgress() && can_write(world)) {
        std::vector<Step> steps{step_of(&sighting, &sighting + 1, &outcome, key)};
        const How how;
        Chunk chunk(world, steps, how);
        chunk.record([&](const Step& step) {
            Membership membership = step.membership;
            take_for_member(step.rows, sighting.at, membership);
            given = answer(world, sighting, step.account, membership);
            return !given.blocked;
        });
        given.blocked = given.blocked || (given.gate == Gate::if_seat && outcome == Outcome::full);
        if (!given.blocked) chunk.append_deferred();  // a refused user does not come in later
        chunk.release();
    } else {
        const Known known = look_up(world, sighting.user_id, sighting.at, false);
        given = answer(world, sighting, known.account, known.membership);
        if (!given.blocked && recording(world.settings)) defer(&sighting, 1);
    }
    if (given.blocked) return error_body(world.settings, given.gate);
    return std::nullopt;
}

std::optional<std::string> check(const World& world, const Request& request, Instant at, Trace* trace) {
    const bool readable = trace || can_read(world);  // whoever wants an explanation waits for it
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
