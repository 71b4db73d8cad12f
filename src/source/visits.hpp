// Visits in a homeserver's tables: user, day, client. Rows go into the history's bitmaps as they are read, in
// any order and repeatedly; memory is bounded.
#pragma once

#include <functional>
#include <set>
#include <unordered_map>

#include "history/fold.hpp"

namespace mau::source {

/// Takes rows of visits into the history. The caller holds fold's task lock.
class VisitRows {
  public:
    /// Whether users who are not in mau.users get a number or are skipped.
    enum class UnknownUsers { add, skip };

    VisitRows(const Config& config, Instant now, UnknownUsers unknown)
        : config_(config), unknown_(unknown), folder_(config, history::first_kept_day(now)) {}

    /// Reads rows (user_id text, an instant of the day in ms, user_agent text) up to an instant; calls `bad`
    /// for each row without a usable user id.
    void take(const pg::Rows& rows, Instant until, const std::function<void(std::string_view)>& bad);
    /// Writes all collected visits to the table.
    void done() { folder_.flush(); }

    std::int64_t taken = 0;
    /// The number of visits that were new to the bitmaps.
    std::int64_t marked() const { return folder_.marked; }

  private:
    struct User {
        std::int64_t number = -1;  // -1: left out
        const std::string* service = nullptr;
    };
    void look_up(const std::vector<std::string_view>& ids);

    const Config& config_;
    const UnknownUsers unknown_;
    history::Folder folder_;
    std::unordered_map<std::string, User> users_;  // recently met, a bounded number
    std::set<std::string, std::less<>> services_;
};

}  // namespace mau::source
