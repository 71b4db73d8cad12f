// Reconcile: compares all users' newest rows with mau's, and records what is missing.
#include "source/reading.hpp"

#include <algorithm>

#include "pg/values.hpp"

namespace mau::source {

namespace {

/// The instants that a reconcile compares by. Sightings after `until` are left to sync; members were seen at
/// `horizon` or later.
struct Instants {
    Instant until, horizon, now;
};

/// Sightings that mau lacks, and sightings of users who are no members, although mau has the sighting and the
/// rules make them members: a reap removed them too early, because the server's clock was ahead.
struct Lacking {
    std::vector<activity::Sighting> sightings, members;
};

/// Compares rows (user_id, last_seen, left_out) with mau's. `skips_unknown`: users without a row in mau.users
/// were forgotten, and are left out.
Lacking find_lacking(const Config& config, const pg::Rows& rows, const Instants& instants,
                     bool skips_unknown) {
    const std::int64_t granularity = config.settings.last_seen_granularity;
    Lacking lacking;
    // Through the indexes: the planner would scan the whole tables.
    pg::KeyedTable accounts, members;
    accounts.open(config.users_table, config.users_index, kUsersIndex);
    members.open(config.cohort_table, config.cohort_index, kCohortIndex);
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const std::string_view id = rows.at(i, 0).text();
        const Instant seen = rows.at(i, 1).integer();
        if (!pg::valid_user_id(id) || !is_local(config.settings, id)) continue;
        const Datum key = pg::text_datum(id);
        const pg::Found member = members.find(key);
        if (member.exists && member.integer(cohort::timestamp) + granularity >= seen) continue;
        const pg::Found account = accounts.find(key);
        if (!account.exists && skips_unknown) continue;
        const Instant known = account.exists && !account.is_null(config::users::last_seen)
                                  ? account.integer(config::users::last_seen)
                                  : -1;
        if (known < 0 || known + granularity < seen) {
            if (seen <= instants.until) lacking.sightings.push_back({id, seen, Platform::unknown});
            continue;
        }
        const bool is_member = member.exists && member.integer(cohort::timestamp) >= instants.horizon;
        const bool left_out = rows.at(i, 2).boolean();
        if (known >= instants.horizon && !is_member && !member.in_flight && !left_out &&
            judge_sighting(config.settings, id, config::account(config, id, account), Membership(), seen) ==
                Outcome::joined)
            lacking.members.push_back(
                {id, known <= instants.now ? std::max(known, seen) : seen, Platform::unknown});
    }
    accounts.close();
    members.close();
    return lacking;
}

}  // namespace

/// Compares all users' newest rows up to `until` with mau's, and records the sightings and the members that
/// mau lacks.
void Reading::record_missed(Instant until) {
    compared = true;
    if (!recording(config_.settings)) return;
    parse_sightings();
    const bool limit = config_.settings.limit_usage_by_mau;
    const Instants instants{until, at_ - kWindow, now_};
    const activity::Queue queue = limit ? activity::Queue::newest_first : activity::Queue::first_come;
    const activity::RecordOptions options{instants.horizon, queue};
    const activity::RecordOptions without_visits{instants.horizon, queue, false};  // the history has them
    const std::string sql = "SELECT q.user_id, q.last_seen, q.left_out FROM (" + compared_query() +
                            ") q(user_id, last_seen, left_out, is_activity) WHERE q.last_seen >= " +
                            std::to_string(std::max<Instant>(0, instants.horizon)) +
                            (limit ? " ORDER BY 2 DESC" : " ORDER BY q.user_id COLLATE \"C\"");
    const auto users_with = [&](std::initializer_list<Outcome> which) {
        std::int64_t count = 0;
        for (const Outcome outcome : which) count += outcomes[static_cast<int>(outcome)];
        return count;
    };
    const auto changes = [&] {
        return sightings - users_with({Outcome::unchanged, Outcome::remote, Outcome::off});
    };
    bool seats_left = true;
    read_all(sql, {{INT8OID, std::min(at_, now_)}}, [&](const pg::Rows& rows) {
        Lacking lacking = find_lacking(config_, rows, instants, !contract_.users.empty());
        const std::int64_t before = changes();
        record(lacking.sightings, options);
        differences += changes() - before;
        if (lacking.members.empty() || !seats_left) return;
        // The cache may know them as members.
        for (const activity::Sighting& sighting : lacking.members) cache::invalidate(sighting.user_id);
        const std::int64_t members = users_with({Outcome::joined, Outcome::refreshed});
        const std::int64_t without_seat = users_with({Outcome::full});
        record(lacking.members, without_visits);
        differences += users_with({Outcome::joined, Outcome::refreshed}) - members;
        seats_left = users_with({Outcome::full}) == without_seat;
    });
}

/// Compares all activity, for when the position does not show what was read, and sets the position to the
/// newest.
void Reading::compare_all() {
    const Instant until = std::min(at_, now_);
    record_missed(until);
    newest_ = read(contract_.newest, {{INT8OID, until}}).at(0, 0).optional_integer().value_or(0);
    resume_.reset();
    moves_back_ = true;
}

void Reading::reconcile(Instant at) {
    at_ = at;
    Instant until = std::min(at, now_);
    // Rows after the position, or within the overlap, are left to sync.
    if (source_.activity_until && *source_.activity_until <= now_)
        until = std::min(until, *source_.activity_until - overlap());
    record_missed(until);
}

}  // namespace mau::source
