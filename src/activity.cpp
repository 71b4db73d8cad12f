#include "activity.hpp"

#include <algorithm>
#include <iterator>

#include "departures.hpp"
#include "history.hpp"
#include "pg/values.hpp"
#include "seats.hpp"
#include "seen.hpp"

namespace mau::activity {

namespace {

pg::Statement know_query(
    "INSERT INTO mau.users (user_id) SELECT * FROM pg_catalog.unnest($1) ON CONFLICT (user_id) DO NOTHING",
    {TEXTARRAYOID});
// An upsert draws a user number even where it only updates, so who is known is updated. Rows in flight are
// left.
pg::Statement note_many_query(
    "UPDATE mau.users u SET last_seen = greatest(u.last_seen, s.at) FROM"
    " (SELECT k.user_no, v.at FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) v(user_id, at)"
    "  JOIN mau.users k ON k.user_id OPERATOR(pg_catalog.=) v.user_id FOR UPDATE OF k SKIP LOCKED) s"
    " WHERE u.user_no OPERATOR(pg_catalog.=) s.user_no",
    {TEXTARRAYOID, INT8ARRAYOID});
pg::Statement note_many_new_query(
    "INSERT INTO mau.users AS u (user_id, last_seen) SELECT * FROM ROWS FROM (pg_catalog.unnest($1), "
    "pg_catalog.unnest($2))"
    " ON CONFLICT (user_id) DO UPDATE SET last_seen = greatest(u.last_seen, EXCLUDED.last_seen)",
    {TEXTARRAYOID, INT8ARRAYOID});

/// The two rows of a user.
struct Rows {
    pg::Found user, member;
};

/// Looks users up in both tables.
class Looker {
  public:
    explicit Looker(const World& world) {
        users_.open(world.users_table, world.users_index);
        cohort_.open(world.cohort_table, world.cohort_index);
    }
    Rows find(std::string_view user_id) { return {users_.find(user_id), cohort_.find(user_id)}; }
    void close() {
        cohort_.close();
        users_.close();
    }

  private:
    pg::KeyedTable users_, cohort_;
};

Membership membership_of(const pg::Found& row) {
    Membership membership;
    if (row.exists) membership.last_seen = row.integer(cohort::timestamp);
    return membership;
}

/// Writes wait to be made until all users of a chunk were judged; then each table gets one statement.
struct Writes {
    std::vector<std::string_view> members, services;  // cohort rows
    std::vector<std::int64_t> member_times;
    std::vector<std::string_view> newly_known;       // users rows to be made
    std::vector<std::string_view> noted, noted_new;  // users rows that take a last sighting
    std::vector<std::int64_t> noted_times, noted_new_times;
    history::Visits visits;

    bool any() const { return !members.empty() || !noted.empty() || !noted_new.empty() || visits.any(); }

    void make() const {
        if (!newly_known.empty()) know_query.write(newly_known);
        if (!noted.empty()) note_many_query.write(noted, noted_times);
        if (!noted_new.empty()) note_many_new_query.write(noted_new, noted_new_times);
        if (members.size() == 1)
            cohort::write(members[0], member_times[0], services[0]);
        else if (!members.empty())
            cohort::write(members, member_times, services);
        visits.write();
    }
};

/// One user of a chunk on the way from look to write.
struct Step {
    const Sighting* sighting;  // the newest
    const Sighting* end;       // of the user's sightings
    Outcome* outcome;
    std::uint64_t lock = 0;
    bool locked = false;
    bool past = false;  // before the horizon: kept as last seen only
    bool late =
        false;  // a member whose row is about to expire, or has by the clock: needs a seat to be refreshed
    bool sure = false;    // judged on rows that nobody else has in flight
    bool marked = false;  // the day and client of the newest sighting are in the history, or will be
    seen::Key key{};      // made before the rows were looked at
    Rows rows{};
    Account account{};
    Membership membership{};
};

/// How long before its end a membership is renewed with a seat: longer than transactions are open.
constexpr Instant kLate = kDay;

/// The latest instant at which somebody may have decided about seats: now, where a sighting is of these days.
Instant latest(Instant at) {
    const Instant now = pg::to_instant(GetCurrentTimestamp());
    return at < now && now - at < kDay ? now : at;
}

void judge(const World& world, Step& step, Instant horizon) {
    const Sighting& sighting = *step.sighting;
    *step.outcome = Outcome::unchanged;
    if (step.rows.user.in_flight && !step.rows.user.exists) return;
    step.account = directory::account(world, sighting.user_id, step.rows.user);
    if (step.rows.member.in_flight) return;
    step.sure = true;
    step.membership = membership_of(step.rows.member);
    step.late = world.settings.limit_usage_by_mau && step.membership.last_seen &&
                !step.membership.holds(latest(sighting.at) + kLate);
    // Who is reserved matters only to a user without a row that holds by itself.
    if (!world.reserved.empty() && (step.late || !step.membership.holds(sighting.at)))
        step.membership.reserved = directory::is_reserved_user(world, sighting.user_id);
    *step.outcome =
        judge_sighting(world.settings, sighting.user_id, step.account, step.membership, sighting.at);
    step.past = sighting.at < horizon && *step.outcome == Outcome::joined;
    if (step.past) *step.outcome = Outcome::unchanged;
}

/// Gives out seats to those who would join, in the order of the queue; who gets none finds the house full.
///
/// A row that expires frees its seat at that instant, for whoever asks then; its owner may be under way with
/// an earlier time, as a member still. So who is late takes a seat first, which keeps others from counting
/// the old row as free, and then looks at the clock: if the row has expired by now, the seat may be
/// another's, and is asked for.
class Seating {
  public:
    Seating(const World& world, Queue order) : world_(world), order_(order) {}

    void give(std::vector<Step>& steps) {
        std::vector<Step*> queue;
        for (Step& step : steps) {
            if (!step.locked || !needs_seat(world_.settings, step.account, step.membership)) continue;
            step.late = step.late && *step.outcome == Outcome::refreshed;
            if (step.late || *step.outcome == Outcome::joined) queue.push_back(&step);
        }
        if (queue.empty()) return;
        std::stable_sort(queue.begin(), queue.end(), [&](const Step* a, const Step* b) {
            return order_ == Queue::first_come ? a->sighting->at < b->sighting->at
                                               : a->sighting->at > b->sighting->at;
        });
        auto next = queue.begin();
        for (; next != queue.end() && seats::enabled(); ++next)
            if (!give_one(**next)) break;
        if (next != queue.end()) give_under_lock(next, queue.end());
    }

    /// To be called when the rows are written, or were not.
    void done(bool written) {
        if (taken_ > 0) written ? seats::used() : seats::give_back(taken_);
        if (locked_) pg::release_lock(pg::LockSpace::seats, 0);
    }

  private:
    /// False where there are no counters to rely on now.
    bool give_one(Step& step) {
        Instant at = step.sighting->at;
        if (step.late) {
            seats::take_anyway(world_);
            at = latest(at);
            if (step.membership.holds(at)) {
                ++taken_;
                return true;
            }
            seats::give_back(1);
        }
        const seats::Take take = seats::take(world_, at);
        if (take == seats::Take::taken) ++taken_;
        if (take == seats::Take::full) *step.outcome = Outcome::full;
        return take != seats::Take::unknown;
    }

    /// Without counters: counts what is there and in flight, and keeps the lock until the rows are written.
    /// It is held for the length of a statement, so nobody waits for an open transaction here either.
    template <class Iterator>
    void give_under_lock(Iterator next, Iterator end) {
        pg::take_lock(pg::LockSpace::seats, 0);
        auto instant = [](const Step& step) {
            return step.late ? latest(step.sighting->at) : step.sighting->at;
        };
        // The earliest instant has the fewest expired rows: counting once, at it, is never too few.
        Instant earliest = instant(**next);
        for (Iterator i = next; i != end; ++i) earliest = std::min(earliest, instant(**i));
        std::int64_t counted = cohort::count_with_in_flight(world_, earliest) + seats::in_flight_elsewhere();
        for (; next != end; ++next) {
            const bool sits = (*next)->late && (*next)->membership.holds(instant(**next));
            if (!sits && full(world_.settings, counted)) {
                *(*next)->outcome = Outcome::full;
                continue;
            }
            if (!sits) ++counted;
            if (seats::enabled()) {
                seats::take_anyway(world_);
                ++taken_;
            }
            locked_ = true;
        }
        if (!locked_) pg::release_lock(pg::LockSpace::seats, 0);
    }

    const World& world_;
    const Queue order_;
    std::int64_t taken_ = 0;
    bool locked_ = false;
};

/// Tells the counters what the writes do to the cohort's rows.
void tell_seats(const World& world, const std::vector<Step>& steps) {
    if (!seats::enabled()) return;
    for (const Step& step : steps) {
        if (!step.locked || (*step.outcome != Outcome::joined && *step.outcome != Outcome::refreshed))
            continue;
        const std::string_view service = directory::service(step.account);
        const pg::Found& row = step.rows.member;
        if (!row.exists) {
            seats::add_rows(world, service, 1);
        } else {
            if (row.text(cohort::service) != service) {
                seats::add_rows(world, row.text(cohort::service), -1);
                seats::add_rows(world, service, 1);
            }
            if (*step.outcome == Outcome::joined || step.late) seats::add_return(world);
        }
    }
}

/// Whether a sighting outside the cohort is news enough to be written.
bool is_news(const World& world, const Step& step) {
    if (step.rows.user.in_flight) return false;
    if (!step.rows.user.exists || step.rows.user.is_null(directory::users::last_seen)) return true;
    return step.sighting->at - step.rows.user.integer(directory::users::last_seen) >
           world.settings.last_seen_granularity;
}

/// Plans to keep a sighting as last seen.
void note(Writes& writes, const Step& step) {
    const bool known = step.rows.user.exists;
    (known ? writes.noted : writes.noted_new).push_back(step.sighting->user_id);
    (known ? writes.noted_times : writes.noted_new_times).push_back(step.sighting->at);
}

/// Whether no sighting of that day was recorded before, as the last one says; then there is nothing to look
/// up. (A day that was marked otherwise is marked twice, which does no harm.)
bool first_of_day(const World& world, const Step& step, const Sighting& sighting) {
    Instant last = INT64_MIN;
    if (step.membership.last_seen) last = *step.membership.last_seen;
    if (step.rows.user.exists && !step.rows.user.is_null(directory::users::last_seen))
        last = std::max(last, step.rows.user.integer(directory::users::last_seen));
    return last == INT64_MIN || last + world.settings.last_seen_granularity < day_start(day_of(sighting.at));
}

/// Plans the visits: one for each day and client of a user that is not marked yet. Who is not known gets a
/// row.
void plan_visits(const World& world, std::vector<Step>& steps, Writes& writes) {
    if (!history::can_mark(world)) return;
    history::Marks marks;
    bool open = false;
    for (Step& step : steps) {
        const bool known = step.rows.user.exists;
        if (!step.locked || (!known && step.rows.user.in_flight) || *step.outcome == Outcome::off ||
            *step.outcome == Outcome::remote)
            continue;
        const std::string_view service = directory::service(step.account);
        for (const Sighting* sighting = step.sighting; sighting != step.end; ++sighting) {
            const Day day = day_of(sighting->at);
            const bool first = sighting == step.sighting && first_of_day(world, step, *sighting);
            if (known && !first) {
                if (!open) marks.open(world);
                open = true;
                const std::int64_t user_no = step.rows.user.integer(directory::users::user_no);
                if (marks.has(user_no, day, sighting->platform, service)) continue;
            }
            history::Visits& visits = writes.visits;
            if (known) {
                visits.user_nos.push_back(step.rows.user.integer(directory::users::user_no));
                visits.days.push_back(day);
                visits.platforms.push_back(static_cast<int>(sighting->platform));
                visits.services.push_back(service);
            } else {
                visits.user_ids.push_back(sighting->user_id);
                visits.id_days.push_back(day);
                visits.id_platforms.push_back(static_cast<int>(sighting->platform));
                visits.id_services.push_back(service);
            }
        }
        // A member without a row in mau.users: seated, or put there by hand.
        if (!known &&
            (*step.outcome == Outcome::refreshed || (*step.outcome == Outcome::unchanged && !step.past)))
            writes.newly_known.push_back(step.sighting->user_id);
        step.marked = true;
    }
    if (open) marks.close();
}

Writes plan(const World& world, const std::vector<Step>& steps) {
    Writes writes;
    for (const Step& step : steps) {
        if (!step.locked) continue;
        const Sighting& sighting = *step.sighting;
        switch (*step.outcome) {
            case Outcome::unchanged:
                if (step.past && is_news(world, step)) note(writes, step);
                break;
            case Outcome::remote:
            case Outcome::off:
                break;
            case Outcome::joined:
                if (!step.rows.user.exists) writes.newly_known.push_back(sighting.user_id);
                [[fallthrough]];
            case Outcome::refreshed:
                writes.members.push_back(sighting.user_id);
                writes.member_times.push_back(sighting.at);
                writes.services.push_back(directory::service(step.account));
                break;
            case Outcome::guest:
            case Outcome::trial:
            case Outcome::support:
            case Outcome::appservice:
            case Outcome::deactivated:
            case Outcome::full:
                if (is_news(world, step)) note(writes, step);
                break;
        }
    }
    return writes;
}

/// Makes the writes; answers false if a row that we took for free was changed under us by direct DML.
bool make(const World& world, const std::vector<Step>& steps, const Writes& writes) {
    pg::guard([] { PreventCommandIfReadOnly("mau.record_activity()"); });
    auto write = [&] {
        const seats::ToldAbout told;
        tell_seats(world, steps);
        writes.make();
    };
    if (IsolationUsesXactSnapshot()) return !pg::attempt(write, pg::is_concurrency);
    write();
    return true;
}

/// The client's bit in the cache of recently seen users.
unsigned client_of(const Sighting& sighting) {
    return 1U << static_cast<int>(sighting.platform);
}

/// Remembers whom nothing can change for a while: members, until the granularity or the day ends.
void remember(const World& world, const std::vector<Step>& steps) {
    if (world.settings.hs_disabled) return;  // a hit also says that requests go ahead
    for (const Step& step : steps) {
        if (!step.locked || !step.sure || step.past) continue;
        const Instant at = step.sighting->at;
        Instant last_seen = at;
        if (*step.outcome == Outcome::unchanged)
            last_seen = *step.membership.last_seen;
        else if (*step.outcome != Outcome::joined && *step.outcome != Outcome::refreshed)
            continue;
        const Instant end_of_day = (at / kDay + 1) * kDay - 1;
        seen::remember(step.key, at, std::min(last_seen + world.settings.last_seen_granularity, end_of_day),
                       step.marked ? client_of(*step.sighting) : seen::kAnyClient);
    }
}

void record_chunk(const World& world, std::vector<Step>& steps, const How& how) {
    for (Step& step : steps) {
        step.lock = pg::hash(step.sighting->user_id);
        step.locked = pg::try_lock(pg::LockSpace::user, step.lock);
    }
    Looker looker(world);
    for (Step& step : steps) {
        if (!step.locked) continue;
        step.rows = looker.find(step.sighting->user_id);
        judge(world, step, how.horizon);
    }
    looker.close();

    Seating seating(world, how.queue);
    seating.give(steps);
    Writes writes = plan(world, steps);
    if (how.visits) plan_visits(world, steps, writes);
    const bool written = !writes.any() || make(world, steps, writes);
    if (!written)
        for (const Step& step : steps)
            if (step.locked) *step.outcome = Outcome::unchanged;
    seating.done(written);
    if (written) remember(world, steps);
    for (const Step& step : steps)
        if (step.locked) pg::release_lock(pg::LockSpace::user, step.lock);
}

/// Whether what decides about a user can be read without waiting for somebody's ALTER, TRUNCATE or REINDEX.
bool can_read(const World& world) {
    return pg::try_read_lock(world.cohort_table) && pg::try_read_lock(world.users_table) &&
           (world.reserved.empty() || pg::try_read_lock(world.threepids_table));
}

/// Likewise for what a sighting writes.
bool can_write(const World& world) {
    return pg::try_table_lock(world.cohort_table, RowExclusiveLock) &&
           pg::try_table_lock(world.users_table, RowExclusiveLock) &&
           (world.reserved.empty() || pg::try_read_lock(world.threepids_table));
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

std::size_t record(const World& world, const Sighting* sightings, std::size_t count, Outcome* outcomes,
                   const How& how) {
    const bool off = !recording(world.settings);
    const bool free = !off && !RecoveryInProgress() && can_write(world);
    if (!off && RecoveryInProgress()) pg::guard([] { PreventCommandIfReadOnly("mau.record_activity()"); });
    std::size_t users = 0;
    std::vector<Step> steps;
    if (free) steps.reserve(std::min(kChunk, count));
    for (const Sighting *sighting = sightings, *end = sightings + count; sighting != end; ++users) {
        const Sighting* const newest = sighting;
        const seen::Key key = free ? seen::key_of(newest->user_id) : seen::Key();
        bool news = false;
        for (; sighting != end && sighting->user_id == newest->user_id; ++sighting)
            news = news || (free && !seen::hit(key, sighting->at, client_of(*sighting)));
        outcomes[users] = off ? Outcome::off : Outcome::unchanged;
        if (news) {
            Step& step = steps.emplace_back();
            step.sighting = newest;
            step.end = sighting;
            step.outcome = &outcomes[users];
            step.key = key;
        }
        if (steps.size() == kChunk || (sighting == end && !steps.empty())) {
            record_chunk(world, steps, how);
            steps.clear();
        }
    }
    return users;
}

namespace {

/// What is known of a request's user: the account, and whether the user is in the cohort.
struct Known {
    Rows rows;
    Account account;
    Membership membership;
};

Known look_up(const World& world, std::string_view user_id, Instant at, bool always_reserved) {
    Known known;
    Looker looker(world);
    known.rows = looker.find(user_id);
    looker.close();
    known.account = directory::account(world, user_id, known.rows.user);
    known.membership = membership_of(known.rows.member);
    // A row in flight is an admission under way.
    if (!known.rows.member.exists && known.rows.member.in_flight) known.membership.last_seen = at;
    if (!world.reserved.empty() && (always_reserved || !known.membership.holds(at)))
        known.membership.reserved = directory::is_reserved_user(world, user_id);
    return known;
}

}  // namespace

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

}  // namespace mau::activity

namespace mau {
namespace {

using activity::Sighting;

Datum jsonb_datum(const std::string& json) {
    return pg::guard([text = json.c_str()] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(text)); });
}

Sighting sighting_of(const pg::Arguments& args) {
    return {args.user_id(0), args.instant(1), platform_of(args.text(2).value_or(std::string_view()))};
}

/// A member's repeated sighting, or request, that the cache knows to change nothing.
bool known_to_change_nothing(const Sighting& sighting) {
    return seen::hit(seen::key_of(sighting.user_id), sighting.at, activity::client_of(sighting));
}

Datum record_activity(FunctionCallInfo fcinfo) {
    const Sighting sighting = sighting_of(pg::Arguments(fcinfo));
    if (known_to_change_nothing(sighting)) return pg::text_datum(name(Outcome::unchanged));
    Outcome outcome = Outcome::off;
    pg::with_spi([&] { activity::record(directory::world(), &sighting, 1, &outcome); });
    return pg::text_datum(name(outcome));
}

/// The elements of an array argument, NULLs marked.
struct Elements {
    int count = 0;
    Datum* values = nullptr;
    bool* nulls = nullptr;

    Elements(FunctionCallInfo fcinfo, int i, const char* name, Oid type, int length, bool by_value,
             char align) {
        if (fcinfo->args[i].isnull)
            throw Error(sqlstate::invalid_parameter, std::string(name) + " must not be NULL", {},
                        "Pass one element for each sighting; '{}' for none.");
        pg::guard([&] {
            ArrayType* array = DatumGetArrayTypeP(fcinfo->args[i].value);
            if (ARR_NDIM(array) > 1)
                ereport(ERROR,
                        (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("%s must have one dimension", name),
                         errdetail("It has %d.", ARR_NDIM(array)),
                         errhint("Pass one element for each sighting.")));
            deconstruct_array(array, type, length, by_value, align, &values, &nulls, &count);
        });
    }
    std::string_view text(int i) const {
        const auto* value = reinterpret_cast<const varlena*>(DatumGetPointer(values[i]));
        return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
    }
};

void check_same_length(const Elements& a, const char* a_name, const Elements& b, const char* b_name) {
    if (a.count == b.count) return;
    throw Error(sqlstate::invalid_parameter,
                std::string(a_name) + " and " + b_name + " must have the same number of elements",
                "They have " + std::to_string(a.count) + " and " + std::to_string(b.count) + ".",
                "Pass one element of each for each sighting.");
}

std::vector<Sighting> sightings_of(FunctionCallInfo fcinfo) {
    const Elements ids(fcinfo, 0, "user_ids", TEXTOID, -1, false, TYPALIGN_INT);
    const Elements times(fcinfo, 1, "at", TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE);
    check_same_length(ids, "user_ids", times, "at");
    std::optional<Elements> agents;
    if (!fcinfo->args[2].isnull) {
        agents.emplace(fcinfo, 2, "user_agents", TEXTOID, -1, false, TYPALIGN_INT);
        check_same_length(ids, "user_ids", *agents, "user_agents");
    }
    std::vector<Sighting> sightings;
    sightings.reserve(static_cast<std::size_t>(ids.count));
    for (int i = 0; i < ids.count; ++i) {
        if (ids.nulls[i] || times.nulls[i])
            throw Error(sqlstate::invalid_parameter,
                        std::string(ids.nulls[i] ? "user_ids" : "at") + " must not contain NULL",
                        "Element " + std::to_string(i + 1) + " is NULL.", "Leave that sighting out.");
        const std::string_view id = ids.text(i);
        pg::check_user_id(id, "user_id");
        sightings.push_back(
            {id, pg::check_instant(DatumGetTimestampTz(times.values[i]), "at"),
             platform_of(agents && !agents->nulls[i] ? agents->text(i) : std::string_view())});
    }
    activity::sort_newest(sightings);  // so that two batches meet their users in the same order
    return sightings;
}

Datum record_activities(FunctionCallInfo fcinfo) {
    const std::vector<Sighting> sightings = sightings_of(fcinfo);
    std::vector<Outcome> outcomes(sightings.size());
    pg::ResultSet result(fcinfo);
    const std::size_t recorded = pg::with_spi([&] {
        return activity::record(directory::world(), sightings.data(), sightings.size(), outcomes.data());
    });
    outcomes.resize(recorded);
    std::int64_t users[kOutcomes] = {};
    for (const Outcome outcome : outcomes) ++users[static_cast<int>(outcome)];
    for (int i = 0; i < kOutcomes; ++i)
        if (users[i] > 0) result.add({name(static_cast<Outcome>(i)), users[i]});
    return Datum(0);
}

Datum check_auth_blocking(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const auto medium = args.text(1), address = args.text(2), appservice = args.text(4);
    Request request;
    if (!args.is_null(0)) request.user_id = args.user_id(0);
    if (medium.has_value() != address.has_value())
        throw Error(sqlstate::invalid_parameter, "medium and address go together",
                    std::string(medium ? "address" : "medium") + " is NULL.", "Pass both, or neither.");
    if (request.user_id && medium)
        throw Error(sqlstate::invalid_parameter, "a user and a threepid cannot both be asked for", {},
                    "Pass user_id for a user's request, medium and address for a registration.");
    request.threepid_given = medium.has_value();
    request.user_type = args.text(3);
    request.by_appservice = appservice && !appservice->empty();
    const Instant at = args.instant(5);
    if (request.user_id && seen::hit(seen::key_of(*request.user_id), at, seen::kAnyClient)) {
        fcinfo->isnull = true;
        return Datum(0);
    }
    const auto body = pg::with_spi([&] {
        const World& world = directory::world();
        if (medium) request.threepid_reserved = directory::is_reserved(world, *medium, *address);
        return activity::check(world, request, at);
    });
    if (body) return jsonb_datum(*body);
    fcinfo->isnull = true;
    return Datum(0);
}

/// Check and record in one: a newcomer is blocked by the seat that is not there, not by a count beforehand.
std::optional<std::string> admit(const World& world, const Sighting& sighting) {
    Request request;
    request.user_id = sighting.user_id;
    if (!activity::can_read(world))
        return activity::check(world, request, sighting.at);  // nor can it be written
    const auto known = activity::look_up(world, sighting.user_id, sighting.at, false);
    const Gate gate = judge_request(world.settings, request, known.account, known.membership, sighting.at);
    if (gate == Gate::disabled) return error_body(world.settings, gate);
    const bool seat_decides =
        gate == Gate::if_seat && needs_seat(world.settings, known.account, known.membership) &&
        judge_sighting(world.settings, sighting.user_id, known.account, known.membership, sighting.at) ==
            Outcome::joined;
    const bool blocked_by_count =
        gate == Gate::if_seat && !seat_decides && full(world.settings, cohort::count_now(world, sighting.at));
    if (blocked_by_count) return error_body(world.settings, gate);
    Outcome outcome;
    activity::record(world, &sighting, 1, &outcome);
    if (gate == Gate::if_seat && outcome == Outcome::full) return error_body(world.settings, gate);
    return std::nullopt;
}

Datum admit(FunctionCallInfo fcinfo) {
    const Sighting sighting = sighting_of(pg::Arguments(fcinfo));
    if (known_to_change_nothing(sighting)) {
        fcinfo->isnull = true;
        return Datum(0);
    }
    const auto body = pg::with_spi([&] { return admit(directory::world(), sighting); });
    if (body) return jsonb_datum(*body);
    fcinfo->isnull = true;
    return Datum(0);
}

/// Numbers the rules it is told and makes rows of them.
class ExplainTrace : public Trace {
  public:
    explicit ExplainTrace(pg::ResultSet& result) : result_(result) {}
    void rule(const char* rule, bool holds, const std::string& detail) override {
        result_.add({++step_, rule, holds, detail});
    }

  private:
    pg::ResultSet& result_;
    int step_ = 0;
};

Datum explain(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string_view user_id = args.user_id(0);
    const Instant at = args.instant(1);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const World& world = directory::world();
        ExplainTrace trace(result);
        const auto known = activity::look_up(world, user_id, at, true);
        trace.rule("registered account", known.account.registered,
                   known.account.registered
                       ? "service " + std::string(directory::service(known.account))
                       : "never registered here; service " + std::string(directory::service(known.account)));
        const Outcome outcome =
            judge_sighting(world.settings, user_id, known.account, known.membership, at, &trace);
        Request request;
        request.user_id = user_id;
        const auto body = activity::check(world, request, at, &trace);
        const bool counts = known.membership.holds(at) && counted(known.account);
        const bool is_full = outcome == Outcome::joined &&
                             needs_seat(world.settings, known.account, known.membership) &&
                             full(world.settings, cohort::count_now(world, at));
        trace.rule("verdict", counts,
                   std::string(counts ? "counts" : "does not count") +
                       "; a sighting now: " + name(is_full ? Outcome::full : outcome) +
                       "; a request now: " + (body ? "blocked" : "goes ahead"));
    });
    return Datum(0);
}

Datum last_seen(FunctionCallInfo fcinfo) {
    const std::string_view user_id = pg::Arguments(fcinfo).user_id(0);
    const auto seen = pg::with_spi([&]() -> std::optional<Instant> {
        static pg::Statement query(
            "SELECT greatest((SELECT m.\"timestamp\" FROM mau.monthly_active_users m"
            "                  WHERE m.user_id OPERATOR(pg_catalog.=) $1),"
            " (SELECT u.last_seen FROM mau.users u WHERE u.user_id OPERATOR(pg_catalog.=) $1),"
            " (SELECT d.at FROM " MAU_DEPARTED " d WHERE d.user_id OPERATOR(pg_catalog.=) $1))",
            {TEXTOID});
        return query.read(user_id).at(0, 0).optional_integer();
    });
    if (seen) return TimestampTzGetDatum(pg::to_timestamp(*seen));
    fcinfo->isnull = true;
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_record_activity, record_activity);
MAU_FUNCTION(mau_record_activities, record_activities);
MAU_FUNCTION(mau_check_auth_blocking, check_auth_blocking);
MAU_FUNCTION(mau_admit, admit);
MAU_FUNCTION(mau_explain, explain);
MAU_FUNCTION(mau_last_seen, last_seen);

}  // namespace mau
