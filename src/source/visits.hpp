// Visits in a homeserver's tables: user, day, client. Rows go into the history's bitmaps as they are read, in
// any order and repeatedly; memory is bounded.
#pragma once

#include "source/known_users.hpp"

#include <functional>

#include "history/fold.hpp"

namespace mau::source {

/// Takes rows of visits into the history. The caller holds fold's task lock.
class VisitRows {
  public:
    /// Whether users who are not in mau.users get a number or are skipped.
    enum class UnknownUsers { add, skip };

    VisitRows(const Config& config, Instant now, UnknownUsers unknown);

    /// Reads rows (user_id text, an instant of the day in ms, user_agent text) up to an instant; calls `bad`
    /// for each row without a usable user id.
    void take(const pg::Rows& rows, Instant until, const std::function<void(std::string_view)>& bad);
    /// Writes all collected visits to the table.
    void done() { folder_.flush(); }

    std::int64_t taken = 0;
    /// The number of visits that were new to the bitmaps.
    std::int64_t marked() const { return folder_.marked; }

  private:
    UserHash hash(std::string_view user_id) const;
    std::vector<KnownUser> look_up(const std::vector<std::string_view>& ids);
    std::uint32_t place_of_service(std::string_view service);

    const Config& config_;
    const UnknownUsers unknown_;
    history::Folder folder_;
    std::uint64_t seeds_[2];
    KnownUsers known_;
    std::vector<std::string> services_;
    std::map<std::string, std::uint32_t, std::less<>> places_;  // of services, by name
};

}  // namespace mau::source
