// Visits that a homeserver's tables know: who was there on which day, with what client. Rows go into the
// history's bitmaps as they come, whatever their order and however often they are there; memory is bounded.
#pragma once

#include <functional>
#include <set>
#include <unordered_map>

#include "history/fold.hpp"

namespace mau::source {

/// Takes rows of visits into the history. Whoever has one holds the task lock of fold.
class VisitRows {
  public:
    /// What becomes of users whom mau does not know: they get a number, or are left out.
    enum class Strangers { get_a_number, are_left_out };

    VisitRows(const Config& config, Instant now, Strangers strangers)
        : config_(config), strangers_(strangers), folder_(config, history::first_kept_day(now)) {}

    /// Takes rows (user_id text, an instant of the day in ms, user_agent text) up to an instant; `bad` is
    /// told of each that has no usable user id.
    void take(const pg::Rows& rows, Instant until, const std::function<void(std::string_view)>& bad);
    /// Hands all over to the table.
    void done() { folder_.flush(); }

    std::int64_t taken = 0;
    /// How many visits were new to the bitmaps.
    std::int64_t marked() const { return folder_.marked; }

  private:
    struct User {
        std::int64_t number = -1;  // -1: left out
        const std::string* service = nullptr;
    };
    void look_up(const std::vector<std::string_view>& ids);

    const Config& config_;
    const Strangers strangers_;
    history::Folder folder_;
    std::unordered_map<std::string, User> users_;  // lately met, a bounded number
    std::set<std::string, std::less<>> services_;
};

}  // namespace mau::source
