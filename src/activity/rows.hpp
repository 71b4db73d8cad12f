// The two rows that a user may have, in mau.users and in the cohort: found without waiting, changed where
// they were found, and written by statements where that is not possible.
#pragma once

#include "rules/platform.hpp"

#include "cohort/cohort.hpp"
#include "history/history.hpp"

namespace mau::activity {

/// The two rows of a user.
struct UserRows {
    pg::Found user, member;
};

/// Whether the rows that decide about a user can be read without waiting for DDL, and their indexes exist.
/// The locks that this takes keep the indexes from being dropped.
bool can_read_rows(const Config& config);
/// Likewise for what a sighting writes.
bool can_write_rows(const Config& config);

/// Looks users up in both tables, and changes the rows that it found last.
class Looker {
  public:
    explicit Looker(const Config& config) : config_(config) {
        users_.open(config.users_table, config.users_index, kUsersIndex);
        cohort_.open(config.cohort_table, config.cohort_index, kCohortIndex);
    }
    UserRows find(std::string_view user_id) {
        const Datum key = pg::text_datum(user_id);
        UserRows rows;
        rows.member = cohort_.find(key);
        rows.user = users_.find(key);
        return rows;
    }
    /// From here on rows may be updated in place. (Not in SERIALIZABLE, where only a statement can be rolled
    /// back.)
    void prepare_updates() {
        if (IsolationIsSerializable()) return;
        members_change_ = cohort_.allows_updates(config_.on_cohort);
        users_change_ = users_.allows_updates(config_.on_users);
    }
    bool members_change() const { return members_change_; }
    bool users_change() const { return users_change_; }
    bool change_member(const pg::Change* changes, int count) { return cohort_.update(changes, count); }
    bool change_user(const pg::Change* changes, int count) { return users_.update(changes, count); }
    void close() {
        cohort_.close();
        users_.close();
    }

  private:
    const Config& config_;
    pg::KeyedTable users_, cohort_;
    bool members_change_ = false, users_change_ = false;
};

Membership membership_of(const pg::Found& row);

/// The marked visits of a user, from both rows.
history::Visited visited_of(const UserRows& rows);

/// Rows of mau.users that one statement writes.
struct Notes {
    std::vector<std::string_view> user_ids;
    std::vector<std::int64_t> times, visited;

    bool any() const { return !user_ids.empty(); }
    void add(std::string_view user_id, Instant at, history::Visited now) {
        user_ids.push_back(user_id);
        times.push_back(at);
        visited.push_back(now.stored());
    }
};

/// Writes collected while the users of a slice are judged; each table gets one statement. Most existing rows
/// are already updated in place by then.
struct Writes {
    std::vector<cohort::Row> members;
    std::vector<bool> made;                     // of the members, once written: whether the row is a new one
    std::vector<std::string_view> newly_known;  // users rows to be made
    Notes noted, noted_new;                     // users rows that take a last sighting
    Notes visited_members;
    std::vector<history::Visit> visits;         // of users who have a row in mau.users
    std::vector<history::Visit> visits_of_new;  // of users whose row, and number, these writes make

    bool any() const {
        return !members.empty() || !newly_known.empty() || noted.any() || noted_new.any() ||
               visited_members.any();
    }
    /// Runs one statement for each table.
    void make();

  private:
    /// Gives the visits of new users the numbers of their rows; both are in the order of ids.
    void number(const pg::Rows& made);
};

}  // namespace mau::activity
