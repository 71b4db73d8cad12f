// The databases that `mau serve` is about: what each answered last, kept in memory and read anew in the
// background.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/database.hpp"
#include "client/exposition_merge.hpp"
#include "client/targets.hpp"

namespace mau::client {

/// The answer of a database in the last round.
struct RoundAnswer {
    bool is_up = false;
    bool lacks_extension = false;     ///< And is no target, because it was found in a server's list.
    std::string health = "starting";  ///< mau.health()'s word; starting, or unreachable.
    std::string reason = "not asked yet";
    std::optional<long long> dau, wau, mau, limit;
    double seconds = 0;  ///< How long the database took.
    std::shared_ptr<const Families> metrics;
};

class Fleet {
  public:
    using Clock = std::chrono::steady_clock;

    /// The least time between two questions to a database, however often it is scraped.
    static constexpr std::chrono::seconds kRound{15};
    /// Databases that were asked before have turns. A turn is so many times as long as the last answer took,
    /// but not longer than kLongestTurn. Each question costs the server a new session, so without turns
    /// hundreds of databases would keep it busy.
    static constexpr int kTurnPerAnswer = 3;
    static constexpr Seconds kLongestTurn{0.2};

    /// Lists the databases and begins to ask them. Raises Problem where the options are wrong.
    Fleet(const Options& options, Seconds timeout, std::string at);
    ~Fleet();

    /// Whether the options may name several databases. Then samples have the label `database`.
    bool is_of_several() const { return is_of_several_; }
    /// The exposition of all databases, from memory. Waits a moment for the first round only.
    std::string metrics();
    /// A row of each database for the page of all of them.
    nlohmann::ordered_json overview();
    /// The figures of a database's page, at most a minute old if it answers; none for an unknown name. Raises
    /// Problem where it never answered.
    std::shared_ptr<const nlohmann::ordered_json> figures(const std::string& name);
    /// Whether a database answers (or the first round is not over), and a line for each.
    std::pair<bool, std::string> health();
    /// Looks for new databases now instead of within 5 minutes.
    void list_again();
    /// The name of the first database.
    std::string first_name();

  private:
    struct Member;
    struct Job {
        std::shared_ptr<Member> member;
        bool is_page = false;
    };

    /// The databases of the options, and the parts of them that cannot be listed now.
    struct Listing {
        std::vector<std::shared_ptr<Member>> members;
        std::vector<std::pair<std::string, Problem>> problems;
    };

    Listing list();
    void take(Listing listing);
    void schedule();
    Clock::time_point enqueue_due(Clock::time_point now);
    void work();
    void ask(Member& member);
    void read_page(Member& member);
    void set_answer(Member& member, RoundAnswer answer);
    void wait_for_first_round();
    std::vector<std::pair<std::string, Problem>> unlisted() const;

    const Options options_;
    const Seconds timeout_;
    const std::string at_;
    const bool is_of_several_;

    std::mutex mutex_;  // guards all that follows, and the members
    std::condition_variable changed_;
    std::vector<std::shared_ptr<Member>> members_;
    std::vector<std::pair<std::string, Problem>> unlisted_;  // lists of databases that cannot be read
    std::deque<Job> jobs_;
    bool ends_ = false;
    bool is_listing_due_ = false;
    Clock::time_point last_turn_{};
    Seconds turn_{};
    std::vector<std::thread> threads_;
};

}  // namespace mau::client
