// The cohort: rows of mau.monthly_active_users, how many count, and who has to leave.
#pragma once

#include "config/directory.hpp"

namespace mau::cohort {

/// Columns of mau.monthly_active_users, as `pg::Found` numbers them.
enum Column { user_id, timestamp, service, renewed, visited };

/// The index on time is lazy: a refresh moves "timestamp", which no index knows (a HOT update), and leaves
/// `renewed`, by which the index finds the row, behind. Always renewed <= "timestamp"; a refresh that would
/// leave it further behind than this takes it along.
inline constexpr Instant kRenewal = 15 * kDay;

/// The figure that the limit is about at an instant: native members, and registered reserved users whatever
/// their age. Exact to the millisecond, as the caller's statement sees the table.
std::int64_t count(const Config& config, Instant at);
/// The same by what is committed now, whatever the isolation level: for decisions.
std::int64_t count_now(const Config& config, Instant at);

/// The native rows, expired ones too, that there could be at most: those committed now and those that other
/// transactions have in flight. Costs a scan of the table; for admission without counters, under the lock of
/// cohort/seating.hpp.
std::int64_t count_rows_with_in_flight(const Config& config);

/// Users and their number, by service.
struct ServiceCount {
    std::string service;
    std::int64_t users;
};
std::vector<ServiceCount> count_by_service(Instant at);

/// The members that `count` counts, by the host in their ids.
struct HostCount {
    std::string host;
    std::int64_t users;
};
std::vector<HostCount> count_by_host(Instant at);

/// How many users of a service (nothing = all) who count were last seen at `at - period` or later.
std::int64_t active(Instant period, Instant at, std::optional<std::string_view> service);

/// The same for a day and for 7 days, native users, in one pass.
struct Lately {
    std::int64_t day, week;
};
Lately lately_active(Instant at);

/// The same by the host in their ids.
std::vector<HostCount> active_by_host(Instant period, Instant at, std::optional<std::string_view> service);

/// Writes rows: joins the users or moves their last sighting forward, never back. Sorted by user id, no user
/// twice. Answers of each whether it is a new one: the reaper may have taken out what was there a moment ago.
struct Row {
    std::string_view user_id;
    Instant at;
    std::string_view service;
    std::int32_t visited;
};
std::vector<bool> write(const std::vector<Row>& rows);

/// Gives registered reserved users without a row theirs; the time of such a row is 0 until the user is seen.
/// Answers how many.
std::int64_t seat_reserved(const Config& config);

/// What a reap did.
struct Reaped {
    std::int64_t seated = 0;       // registered reserved users who had no row
    std::int64_t expired = 0;      // rows older than the window
    std::int64_t deactivated = 0;  // with count_deactivated_users off
    std::int64_t over_limit = 0;   // the oldest counted rows above the maximum
};
/// Brings the cohort in order at an instant, `max_rows` rows at most.
Reaped reap(const Config& config, Instant at, std::int64_t max_rows);

}  // namespace mau::cohort
