// Reconcile: compares all users' newest rows with mau's, and records what is missing.
#include "source/reading.hpp"

#include "pg/values.hpp"

namespace mau::source {

/// Compares all users' newest rows with mau's, and records what is missing: sightings up to `until`, and
/// members whose row a reap has removed too early, because the server's clock was ahead. If the homeserver
/// has a table of users, users without a row in mau.users were forgotten and are skipped.
void Reading::record_missed(Instant until) {
    compared = true;
    if (!recording(config_.settings)) return;
    parse_sightings();
    const bool limit = config_.settings.limit_usage_by_mau;
    const Instant horizon = at_ - kWindow;
    const activity::Queue queue = limit ? activity::Queue::newest_first : activity::Queue::first_come;
    const activity::RecordOptions later{horizon, queue};
    const activity::RecordOptions again{horizon, queue, false};  // their days are in the history
    const std::string sql = "SELECT q.user_id, q.last_seen, q.left_out FROM (" + compared_query() +
                            ") q(user_id, last_seen, left_out, is_activity) WHERE q.last_seen >= " +
                            std::to_string(std::max<Instant>(0, horizon)) +
                            (limit ? " ORDER BY 2 DESC" : " ORDER BY q.user_id COLLATE \"C\"");
    const auto users_with = [&](std::initializer_list<Outcome> which) {
        std::int64_t count = 0;
        for (const Outcome outcome : which) count += outcomes[static_cast<int>(outcome)];
        return count;
    };
    const auto changes = [&] {
        return sightings - users_with({Outcome::unchanged, Outcome::remote, Outcome::off});
    };
    const std::int64_t granularity = config_.settings.last_seen_granularity;
    std::vector<activity::Sighting> missed, lost;
    const auto compare_rows = [&](const pg::Rows& rows) {
        // Through the indexes: the planner would scan the whole tables.
        pg::KeyedTable accounts, members;
        accounts.open(config_.users_table, config_.users_index, kUsersIndex);
        members.open(config_.cohort_table, config_.cohort_index, kCohortIndex);
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text();
            const Instant seen = rows.at(i, 1).integer();
            if (!pg::valid_user_id(id) || !is_local(config_.settings, id)) continue;
            const Datum key = pg::text_datum(id);
            const pg::Found member = members.find(key);
            if (member.exists && member.integer(cohort::timestamp) + granularity >= seen) continue;
            const bool is_member = member.exists && member.integer(cohort::timestamp) >= horizon;
            const pg::Found account = accounts.find(key);
            if (!account.exists && !contract_.users.empty()) continue;
            const Instant known = account.exists && !account.is_null(directory::users::last_seen)
                                      ? account.integer(directory::users::last_seen)
                                      : -1;
            if (known < 0 || known + granularity < seen) {
                if (seen <= until) missed.push_back({id, seen, Platform::unknown});
            } else if (known >= horizon && !is_member && !member.in_flight && !rows.at(i, 2).boolean() &&
                       judge_sighting(config_.settings, id, directory::account(config_, id, account),
                                      Membership(), seen) == Outcome::joined) {
                lost.push_back({id, known <= now_ ? std::max(known, seen) : seen, Platform::unknown});
            }
        }
        accounts.close();
        members.close();
    };
    bool seats_left = true;
    read_all(sql, {{INT8OID, std::min(at_, now_)}}, [&](const pg::Rows& rows) {
        missed.clear(), lost.clear();
        compare_rows(rows);
        const std::int64_t before = changes();
        record(missed, later);
        differences += changes() - before;
        if (lost.empty() || !seats_left) return;
        // The cache may know them as members.
        for (const activity::Sighting& sighting : lost) seen::invalidate(sighting.user_id);
        const std::int64_t members = users_with({Outcome::joined, Outcome::refreshed});
        const std::int64_t without_seat = users_with({Outcome::full});
        record(lost, again);
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
