#include "activity/rows.hpp"

#include "pg/locks.hpp"

namespace mau::activity {

namespace {

// Each returns the user numbers of the new rows.
pg::Statement know_query(
    "INSERT INTO mau.users (user_id) SELECT * FROM unnest($1) ON CONFLICT (user_id) DO NOTHING"
    " RETURNING user_id, user_no",
    {TEXTARRAYOID});
pg::Statement note_many_new_query(
    "INSERT INTO mau.users AS u (user_id, last_seen, visited)"
    " SELECT n.user_id, n.at, n.visited::int4 FROM"
    " ROWS FROM (unnest($1), unnest($2), unnest($3)) n(user_id, at, visited)"
    " ON CONFLICT (user_id) DO UPDATE SET last_seen = greatest(u.last_seen, EXCLUDED.last_seen),"
    " visited = greatest(u.visited, EXCLUDED.visited) RETURNING user_id, user_no",
    {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID});
// An upsert draws a user number even if it only updates, so existing rows are updated. Returns how many it
// has written; rows of other transactions in progress are skipped. Without a time only `visited` changes.
pg::Statement note_many_query(
    "WITH s AS (SELECT k.user_no, v.at, v.visited::int4 FROM"
    "   ROWS FROM (unnest($1), unnest($2), unnest($3)) v(user_id, at, visited)"
    "  JOIN mau.users k ON k.user_id = v.user_id FOR UPDATE OF k SKIP LOCKED),"
    " w AS (UPDATE mau.users u SET last_seen = greatest(u.last_seen, s.at),"
    "  visited = greatest(u.visited, s.visited) FROM s WHERE u.user_no = s.user_no RETURNING 1)"
    " SELECT count(*) FROM w",
    {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID});
// The same for members, whose last sighting stays.
pg::Statement visit_members_query(
    "UPDATE mau.monthly_active_users m SET visited = greatest(m.visited, s.visited)"
    " FROM (SELECT k.user_id, v.visited::int4 FROM"
    "   ROWS FROM (unnest($1), unnest($2)) v(user_id, visited)"
    "  JOIN mau.monthly_active_users k ON k.user_id = v.user_id"
    "  FOR UPDATE OF k SKIP LOCKED) s WHERE m.user_id = s.user_id",
    {TEXTARRAYOID, INT8ARRAYOID});

}  // namespace

bool can_read_rows(const Config& config) {
    return pg::try_read_lock(config.cohort_table) && pg::try_read_lock(config.users_table) &&
           OidIsValid(config.cohort_index) && OidIsValid(config.users_index) &&
           (config.reserved.empty() || pg::try_read_lock(config.threepids_table)) &&
           config::is_latest(config);
}

bool can_write_rows(const Config& config) {
    // An index alone is locked by ALTER INDEX … SET TABLESPACE. Updates in place open every index of their
    // table. A member's sighting does not write to mau.users.
    return pg::try_lock_with_indexes(config.cohort_table, RowExclusiveLock) &&
           pg::try_table_lock(config.users_table, RowExclusiveLock) && OidIsValid(config.cohort_index) &&
           pg::try_table_lock(config.users_index, RowExclusiveLock) &&
           (config.reserved.empty() ||
            (pg::try_read_lock(config.threepids_table) && pg::try_read_lock(config.users_table))) &&
           config::is_latest(config);
}

Membership membership_of(const pg::Found& row) {
    Membership membership;
    if (row.exists) membership.last_seen = row.integer(cohort::timestamp);
    return membership;
}

history::Visited visited_of(const UserRows& rows) {
    history::Visited visited;
    if (rows.member.exists) visited = history::Visited(rows.member.int4(cohort::visited));
    if (rows.user.exists) visited.unite(history::Visited(rows.user.int4(config::users::visited)));
    return visited;
}

void Writes::make() {
    if (!newly_known.empty()) number(know_query.write(newly_known));
    if (noted.any()) {
        const pg::Rows rows = note_many_query.write(noted.user_ids, noted.times, noted.visited);
        if (rows.at(0, 0).integer() < static_cast<std::int64_t>(noted.user_ids.size()))
            throw Error(sqlstate::serialization_failure, "another transaction has taken a user's row");
    }
    if (noted_new.any()) {
        const pg::Rows rows =
            note_many_new_query.write(noted_new.user_ids, noted_new.times, noted_new.visited);
        if (rows.count < noted_new.user_ids.size()) throw not_written("mau.users");
        number(rows);
    }
    if (!members.empty()) made = cohort::write(members);
    if (visited_members.any()) visit_members_query.write(visited_members.user_ids, visited_members.visited);
}

void Writes::number(const pg::Rows& made) {
    auto visit = visits_of_new.begin();
    for (std::uint64_t i = 0; i < made.count; ++i)
        for (; visit != visits_of_new.end() && visit->user_id <= made.at(i, 0).text(); ++visit)
            if (visit->user_id == made.at(i, 0).text()) visit->user_no = made.at(i, 1).integer();
}

}  // namespace mau::activity
