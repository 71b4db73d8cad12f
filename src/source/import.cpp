// Attach: imports accounts, threepids, last sightings and visits.
#include "source/reading.hpp"

#include <algorithm>

#include "pg/values.hpp"

namespace mau::source {

namespace {

/// How old a member's time in the homeserver's own list becomes.
constexpr Instant kCohortGranularity = 3600000;
pg::Statement no_users_query("SELECT NOT EXISTS (SELECT 1 FROM mau.users)");
pg::Statement no_threepids_query("SELECT NOT EXISTS (SELECT 1 FROM mau.user_threepids)");

}  // namespace

/// Reads and records all users' last sightings: rows (user_id, last_seen, whether a member).
void Reading::read_last_seen(const std::string& sql, const Params& params,
                             const activity::RecordOptions& members, const activity::RecordOptions& others) {
    std::vector<activity::Sighting> batch, batch_of_others;
    read_all(sql, params, [&](const pg::Rows& rows) {
        batch.clear(), batch_of_others.clear();
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text();
            if (pg::valid_user_id(id))
                (rows.at(i, 2).boolean() ? batch : batch_of_others)
                    .push_back({id, rows.at(i, 1).integer(), Platform::unknown});
            else
                skip_sighting(id);
        }
        record(batch, members);
        record(batch_of_others, others);
    });
}

/// The instant up to which the homeserver's own list of members is complete: a member's time there is renewed
/// when it is older than an hour. Nothing where there is no list, or where the homeserver no longer maintains
/// it.
std::optional<Instant> Reading::cohort_kept_until(std::optional<Instant> newest) {
    if (!recording(config_.settings)) return std::nullopt;
    if (contract_.cohort.empty()) {
        if (!contract_.cohort_table.empty())
            no_cohort = {
                "there is no " + contract_.cohort_table + "; members are those of " + contract_.activity_name,
                {},
                {}};
        return std::nullopt;
    }
    std::optional<Instant> newest_member;
    const auto trouble = pg::attempt(
        [&] {
            newest_member =
                read("SELECT max(c.last_seen) FROM (" + contract_.cohort + ") c(user_id, last_seen)",
                     {{INT8OID, at_ + kFuture}})
                    .at(0, 0)
                    .optional_integer();
        },
        is_lasting);
    if (trouble) {
        no_cohort = cannot_read(contract_.cohort_table, *trouble,
                                "members were imported from " + contract_.activity_name + " only");
        return std::nullopt;
    }
    if (!newest_member || (newest && *newest - *newest_member > kDay)) return std::nullopt;
    return *newest_member + kCohortGranularity;
}

/// All users' last sightings up to $1, whether the user is in the homeserver's own list of members, and
/// whether the sighting is in its activity.
std::string Reading::seen_query() const {
    if (!use_cohort_)
        return "(SELECT a.user_id, a.last_seen, true, true FROM (" + contract_.last_seen +
               ") a(user_id, last_seen)) s(user_id, last_seen, is_member, is_activity)";
    // The homeserver writes the two one after the other, so their times differ a little.
    return "(SELECT coalesce(a.user_id, c.user_id),"
           " CASE WHEN c.last_seen - a.last_seen <= 60000 THEN a.last_seen"
           " ELSE greatest(a.last_seen, c.last_seen) END, c.user_id IS NOT NULL, a.user_id IS NOT NULL FROM "
           "(" +
           contract_.last_seen + ") a(user_id, last_seen) FULL JOIN (" + contract_.cohort +
           ") c(user_id, last_seen) ON c.user_id = a.user_id) s(user_id, last_seen, is_member, is_activity)";
}

/// The query for all users' last sightings up to $1, and whether the homeserver's own list of members leaves
/// the user out, as of the instant of the reading: rows (user_id, last_seen, left_out, is_activity).
std::string Reading::compared_query() {
    std::optional<Instant> kept_until;
    if (!contract_.cohort.empty())
        kept_until =
            cohort_kept_until(read(contract_.newest, {{INT8OID, at_ + kFuture}}).at(0, 0).optional_integer());
    use_cohort_ = kept_until.has_value();
    return "SELECT s.user_id, s.last_seen, " +
           (kept_until ? "NOT s.is_member AND s.last_seen < " + std::to_string(*kept_until)
                       : std::string("false")) +
           ", s.is_activity FROM " + seen_query();
}

/// Whether there is activity after the instant of the import, which sync has to read later.
bool Reading::find_later() {
    return read("SELECT (" + contract_.newest + ") > " + std::to_string(at_ + kFuture) + " IS TRUE",
                {{INT8OID, latest_plausible(at_)}})
        .at(0, 0)
        .boolean();
}

void Reading::import(Instant at) {
    at_ = at;
    fill(no_users_query, &Reading::read_users);
    fill(no_threepids_query, &Reading::read_threepids);
    parse_sightings();
    const std::optional<Instant> newest =
        read(contract_.newest, {{INT8OID, at + kFuture}}).at(0, 0).optional_integer();
    // An old dump is imported as of its newest row, less a day for clocks that differ; members who have
    // expired since count at no later instant.
    const Instant horizon = std::min(at, newest.value_or(at)) - kWindow - kDay;
    const std::optional<Instant> kept_until = cohort_kept_until(newest);
    use_cohort_ = kept_until.has_value();
    const std::string seen = "SELECT s.user_id, s.last_seen, s.is_member FROM " + seen_query() +
                             " WHERE (s.user_id = ANY ($2)) IS ";
    // A user who is not in the homeserver's list was no member up to the time until which the list is
    // complete.
    const Instant others = std::max(horizon, kept_until.value_or(horizon));
    const std::vector<std::string_view> reserved = config::registered_reserved_users(config_);
    const Params params = {{INT8OID, at + kFuture}, {TEXTARRAYOID, reserved}};
    // Seats are given out as reap would leave them: first to the reserved users, then to the newest.
    if (!reserved.empty())
        read_last_seen(seen + "TRUE", params, {horizon, activity::Queue::first_come, false},
                       {horizon, activity::Queue::first_come, false});
    cohort::seat_reserved(config_);
    if (config_.settings.limit_usage_by_mau)
        read_last_seen(seen + "NOT TRUE ORDER BY 2 DESC", params,
                       {horizon, activity::Queue::newest_first, false},
                       {others, activity::Queue::newest_first, false});
    else
        // In the order of mau's index, so that rows written together are stored together.
        read_last_seen(seen + "NOT TRUE ORDER BY s.user_id COLLATE \"C\"", params,
                       {horizon, activity::Queue::first_come, false},
                       {others, activity::Queue::first_come, false});
    const bool later = !contract_.activity_table.empty() && find_later();
    for (const Part& part : parts()) {
        const std::int64_t filenode = filenode_of(table_oid(source_.schema, part.table));
        const bool unread = later && part.table == contract_.activity_table;
        remember(part.table,
                 unread ? TableState{filenode, {}, {}, {}} : advance(TableState{}, filenode, mark_));
    }
    if (contract_.activity_table.empty()) remember_activity_file();
    import_visits();
    note_malformed(substitute(contract_.malformed, "where", "true"));
    flush_skipped();
    keep_progress(newest ? std::optional(std::min({*newest, at, now_})) : std::nullopt);
}

}  // namespace mau::source
