// Reconcile: compares all users' newest rows with mau's, and records what is missing.
#include "source/reading.hpp"

#include "pg/values.hpp"

namespace mau::source {

/// Compares all users' newest rows up to an instant with mau's, and records what is missing. If the
/// homeserver has a table of users, users without a row in mau.users were forgotten and are skipped.
void Reading::record_missed(Instant until) {
    compared = true;
    if (!recording(config_.settings)) return;
    parse_sightings();
    const bool limit = config_.settings.limit_usage_by_mau;
    const activity::RecordOptions options{
        at_ - kWindow, limit ? activity::Queue::newest_first : activity::Queue::first_come};
    const std::string sql = "SELECT s.user_id, s.last_seen FROM (" + contract_.last_seen +
                            ") s(user_id, last_seen) WHERE s.last_seen >= " +
                            std::to_string(std::max<Instant>(0, at_ - kWindow)) +
                            (limit ? " ORDER BY 2 DESC" : " ORDER BY s.user_id COLLATE \"C\"");
    const auto changes = [&] {
        std::int64_t changed = sightings;
        for (const Outcome none : {Outcome::unchanged, Outcome::remote, Outcome::off})
            changed -= outcomes[static_cast<int>(none)];
        return changed;
    };
    const std::int64_t granularity = config_.settings.last_seen_granularity;
    const auto keep_newer = [&](std::vector<std::string_view>& users, std::vector<std::int64_t>& seen) {
        // Through the indexes: the planner would scan the whole tables.
        pg::KeyedTable accounts, members;
        accounts.open(config_.users_table, config_.users_index, kUsersIndex);
        members.open(config_.cohort_table, config_.cohort_index, kCohortIndex);
        std::size_t left = 0;
        for (std::size_t i = 0; i < users.size(); ++i) {
            const Datum key = pg::text_datum(users[i]);
            const pg::Found member = members.find(key);
            if (member.exists && member.integer(cohort::timestamp) + granularity >= seen[i]) continue;
            const pg::Found account = accounts.find(key);
            if (account.exists ? !account.is_null(directory::users::last_seen) &&
                                     account.integer(directory::users::last_seen) + granularity >= seen[i]
                               : !contract_.users.empty())
                continue;
            users[left] = users[i];
            seen[left++] = seen[i];
        }
        accounts.close();
        members.close();
        users.resize(left);
        seen.resize(left);
    };
    const std::int64_t before = changes();
    std::vector<std::string_view> ids;
    std::vector<std::int64_t> times;
    std::vector<activity::Sighting> batch;
    read_all(sql, {{INT8OID, until}}, [&](const pg::Rows& rows) {
        ids.clear(), times.clear(), batch.clear();
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text();
            if (!pg::valid_user_id(id) || !is_local(config_.settings, id)) continue;
            ids.push_back(id);
            times.push_back(rows.at(i, 1).integer());
        }
        keep_newer(ids, times);
        for (std::size_t i = 0; i < ids.size(); ++i) batch.push_back({ids[i], times[i], Platform::unknown});
        record(batch, options);
    });
    differences += changes() - before;
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
