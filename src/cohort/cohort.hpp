// The cohort: rows of mau.monthly_active_users, their counts, and their removal.
#pragma once

#include "config/config.hpp"

namespace mau::cohort {

/// The index is on `renewed`, not on "timestamp", so that a refresh is a HOT update. Always renewed <=
/// "timestamp". A refresh that would make the difference greater than this sets `renewed`, too.
inline constexpr Instant kRenewal = 15 * kDay;

/// The figure that the limit is about at an instant: native members, and registered reserved users whatever
/// their age. Exact to the millisecond, as the caller's statement sees the table.
std::int64_t count(const Config& config, Instant at);
/// The same by the rows that are committed now, in any isolation level: for decisions.
std::int64_t count_now(const Config& config, Instant at);

/// The largest possible number of native rows, expired ones included: committed rows plus rows of other
/// transactions in progress. Scans the table; used by an admission without counters, under the lock of
/// cohort/seating.hpp.
std::int64_t count_rows_with_in_flight(const Config& config);

/// The users of a service or a host.
struct Group {
    std::string name;
    std::int64_t users;
};
/// Reads rows (name text, users int8).
std::vector<Group> groups_of(const pg::Rows& rows);

/// Users and their number, by service.
std::vector<Group> count_by_service(Instant at);
/// The members that `count` counts, by the host in their ids.
std::vector<Group> count_by_host(Instant at);

/// How many users of a service (nothing = all) who count were last seen at `at - period` or later, for a
/// period of up to 30 days.
std::int64_t active(Instant period, Instant at, std::optional<std::string_view> service);

/// The members by service: those seen within a day, within 7 days, and all. One pass; a service of the
/// cohort is in each, perhaps with 0.
struct Lately {
    std::vector<Group> day, week, month;
};
Lately lately_active(Instant at);

/// The same by the host in their ids.
std::vector<Group> active_by_host(Instant period, Instant at, std::optional<std::string_view> service);

/// Writes rows: joins the users or moves their last sighting forward, never back. Sorted by user id, no user
/// twice. Returns for each whether the row is new; a reap may have removed the row after it was read.
struct Row {
    std::string_view user_id;
    Instant at;
    std::string_view service;
    std::int32_t visited;
};
std::vector<bool> write(const std::vector<Row>& rows);

/// Inserts rows for registered reserved users who have none, with time 0 until the user is seen. Returns
/// their number.
std::int64_t seat_reserved(const Config& config);

/// The result of a reap.
struct Reaped {
    std::int64_t seated = 0;       // registered reserved users who had no row
    std::int64_t expired = 0;      // rows older than the window
    std::int64_t deactivated = 0;  // or locked, where such users do not count
    std::int64_t over_limit = 0;   // the oldest counted rows above the maximum
};
/// Brings the cohort in order at an instant, `max_rows` rows at most.
Reaped reap(const Config& config, Instant at, std::int64_t max_rows);

}  // namespace mau::cohort
