#include "client/fleet.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "client/figures.hpp"
#include "client/output.hpp"
#include "report/exposition.hpp"

namespace mau::client {
namespace {

using namespace std::chrono_literals;

constexpr auto kPageAge = 60s;
constexpr auto kPageForgotten = 10min;
constexpr auto kListAge = 5min;
constexpr auto kFirstRound = 300ms;
constexpr std::size_t kThreads = 8;

// The daily and weekly users are those of the last snapshot, because counting them takes a scan.
constexpr const char* kRoundQuery = R"sql(
SELECT mau.metrics($1::timestamptz) AS metrics, h.health, h.reason, mau.monthly_active_count($1::timestamptz) AS mau,
       c."limit", p.dau, p.wau
FROM mau.health($1::timestamptz) h
     LEFT JOIN (SELECT max_mau_value AS "limit" FROM mau.settings WHERE limit_usage_by_mau) c ON true
     LEFT JOIN (SELECT s.dau, s.wau FROM mau.snapshots s WHERE s.at <= $1::timestamptz ORDER BY s.at DESC LIMIT 1) p ON true)sql";

std::optional<long long> number(const Rows& rows, const char* column) {
    if (!rows.cell(0, column)) return std::nullopt;
    return rows.integer(0, column);
}

}  // namespace

/// A database. `target` does not change; the rest is guarded by the fleet's mutex.
struct Fleet::Member {
    /// Whether it is a target, as far as is known: a database that was found may not have the extension.
    bool is_target() const { return was_asked ? !answer.lacks_extension : !target.is_found; }

    Target target;
    RoundAnswer answer;
    bool was_asked = false, is_asked = false;
    Clock::time_point asked_at{};

    std::shared_ptr<const nlohmann::ordered_json> page;
    std::optional<Problem> page_problem;
    bool is_page_read = false;
    Clock::time_point page_at{}, page_wanted_at{};
};

Fleet::Fleet(const Options& options, Seconds timeout, std::string at)
    : options_(options),
      timeout_(timeout),
      at_(std::move(at)),
      is_of_several_(options.all || !options.targets_file.empty()) {
    take(list());
    threads_.emplace_back([this] { schedule(); });
    for (std::size_t t = 0; t < (is_of_several_ ? kThreads : 2); ++t) {
        threads_.emplace_back([this] { work(); });
    }
}

Fleet::~Fleet() {
    {
        const std::lock_guard lock(mutex_);
        ends_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

Fleet::Listing Fleet::list() {
    Listing listing;
    for (Target& target : distinct_targets(options_, timeout_, listing.problems)) {
        listing.members.push_back(std::make_shared<Member>());
        listing.members.back()->target = std::move(target);
    }
    return listing;
}

/// Adds new databases and removes dropped ones. Where the connection of a database was changed, its last
/// answer is forgotten; where the extension was missing, it is looked for again.
void Fleet::take(Listing listing) {
    const auto find_in = [](auto& members, const std::string& name) {
        return std::find_if(members.begin(), members.end(),
                            [&](const auto& member) { return member->target.name == name; });
    };
    const auto is_gone = [&](const auto& known) {
        const auto is_not_listed = [&](const auto& p) { return p.first == known->target.found_by; };
        return find_in(listing.members, known->target.name) == listing.members.end() &&
               (!known->target.is_found ||
                std::none_of(listing.problems.begin(), listing.problems.end(), is_not_listed));
    };
    members_.erase(std::remove_if(members_.begin(), members_.end(), is_gone), members_.end());
    for (const auto& member : listing.members) {
        const auto known = find_in(members_, member->target.name);
        if (known == members_.end()) {
            members_.push_back(member);
        } else if ((*known)->target.conninfo != member->target.conninfo || (*known)->answer.lacks_extension) {
            *known = member;
        }
    }
    for (const auto& [name, problem] : listing.problems) {
        const auto is_known = [&name = name](const auto& known) { return known.first == name; };
        if (std::none_of(unlisted_.begin(), unlisted_.end(), is_known)) report(problem, name);
    }
    unlisted_ = std::move(listing.problems);
}

/// Puts each database into the queue when it is due, and looks for new databases now and then.
void Fleet::schedule() {
    auto listed_at = Clock::now();
    std::unique_lock lock(mutex_);
    while (!ends_) {
        const bool is_old = Clock::now() - listed_at > (unlisted_.empty() ? kListAge : kRound);
        if (is_of_several_ && (is_old || is_listing_due_)) {
            is_listing_due_ = false;
            lock.unlock();
            std::optional<Listing> listing;
            try {
                listing = list();
            } catch (const Problem& problem) {
                report(problem);
            } catch (const std::exception& problem) {
                report(Problem(problem.what(), ""));
            }
            lock.lock();
            if (listing) take(std::move(*listing));
            listed_at = Clock::now();
        }
        const auto now = Clock::now();
        for (const auto& member : members_) {
            if (member->page && now - member->page_wanted_at > kPageForgotten) member->page = nullptr;
        }
        const auto next = enqueue_due(now);
        changed_.notify_all();
        changed_.wait_until(lock, next, [this] { return ends_ || is_listing_due_; });
    }
}

/// Puts the databases into the queue that are due: new ones at once, the others in turn. Returns when to look
/// again.
Fleet::Clock::time_point Fleet::enqueue_due(Clock::time_point now) {
    const auto enqueue = [&](const std::shared_ptr<Member>& member) {
        member->is_asked = true;
        jobs_.push_back({member, false});
    };
    std::shared_ptr<Member> first;  // in turn
    for (const auto& member : members_) {
        if (member->is_asked || member->answer.lacks_extension) continue;
        if (!member->was_asked) {
            enqueue(member);
        } else if (!first || member->asked_at < first->asked_at) {
            first = member;
        }
    }
    if (!first) return now + kRound;
    const auto turn = std::chrono::duration_cast<Clock::duration>(turn_);
    const auto due = std::max(first->asked_at + kRound, last_turn_ + turn);
    if (due > now) return due;
    enqueue(first);
    last_turn_ = now;
    return now + turn;
}

void Fleet::list_again() {
    {
        const std::lock_guard lock(mutex_);
        is_listing_due_ = is_of_several_;
    }
    changed_.notify_all();
}

void Fleet::work() {
    for (;;) {
        Job job;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return ends_ || !jobs_.empty(); });
            if (ends_) return;
            job = std::move(jobs_.front());
            jobs_.pop_front();
        }
        if (job.is_page) {
            read_page(*job.member);
        } else {
            ask(*job.member);
        }
        changed_.notify_all();
    }
}

/// Asks a database for its metrics and its health. The connection is closed again: an idle one would take one
/// of the server's max_connections, and some megabytes of memory, for each database all the time.
void Fleet::ask(Member& member) {
    const auto start = Clock::now();
    {
        const std::lock_guard lock(mutex_);
        member.asked_at = start;
    }
    RoundAnswer answer;
    try {
        Connection connection = open_database(member.target, timeout_);
        const Rows rows = connection.run(kRoundQuery, {at_.empty() ? Cell("now") : Cell(at_)});
        answer.is_up = true;
        answer.health = rows.text(0, "health");
        answer.reason = hide_user_ids(rows.text(0, "reason"));
        answer.mau = number(rows, "mau");
        answer.limit = number(rows, "limit");
        answer.dau = number(rows, "dau");
        answer.wau = number(rows, "wau");
        answer.metrics = std::make_shared<Families>(
            parse_exposition(rows.text(0, "metrics"), is_of_several_ ? member.target.name : ""));
    } catch (const NoExtension& problem) {
        answer.lacks_extension = member.target.is_found;
        answer.reason = problem.what();
    } catch (const std::exception& problem) {
        answer.reason = hide_user_ids(problem.what());
    }
    if (!answer.is_up) answer.health = "unreachable";
    answer.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    set_answer(member, std::move(answer));
}

void Fleet::set_answer(Member& member, RoundAnswer answer) {
    std::optional<std::string> news;
    {
        const std::lock_guard lock(mutex_);
        if (answer.lacks_extension) {
            member.page = nullptr;
        } else if (!answer.is_up && (member.answer.is_up || !member.was_asked)) {
            news = answer.reason;
        } else if (answer.is_up && !member.answer.is_up && member.was_asked) {
            news = "answers again";
        }
        turn_ = std::min(kTurnPerAnswer * Seconds(answer.seconds), kLongestTurn);
        member.answer = std::move(answer);
        member.was_asked = true;
        member.is_asked = false;
    }
    if (news) report(Problem(*news, ""), member.target.name);
}

void Fleet::read_page(Member& member) {
    std::shared_ptr<nlohmann::ordered_json> page;
    std::optional<Problem> trouble;
    try {
        Connection connection = open_database(member.target, timeout_);
        page = std::make_shared<nlohmann::ordered_json>(read_figures(connection, at_));
        (*page)["name"] = member.target.name;
        (*page)["is_of_several"] = is_of_several_;
    } catch (const Problem& problem) {
        trouble = problem;
    } catch (const std::exception& problem) {
        trouble.emplace(problem.what(), "");
    }
    const std::lock_guard lock(mutex_);
    if (page) member.page = std::move(page);
    member.page_problem = std::move(trouble);
    member.page_at = Clock::now();
    member.is_page_read = false;
}

std::string Fleet::first_name() {
    const std::lock_guard lock(mutex_);
    return members_.empty() ? "" : members_.front()->target.name;
}

std::shared_ptr<const nlohmann::ordered_json> Fleet::figures(const std::string& name) {
    std::unique_lock lock(mutex_);
    const auto found = std::find_if(members_.begin(), members_.end(), [&](const auto& member) {
        return member->target.name == name && member->is_target();
    });
    if (found == members_.end()) return nullptr;
    const std::shared_ptr<Member> member = *found;
    const auto now = Clock::now();
    member->page_wanted_at = now;
    const bool was_read = member->page || member->page_problem;
    const auto age = member->page_problem ? kRound : kPageAge;
    if (!member->is_page_read && (!was_read || now - member->page_at > age)) {
        member->is_page_read = true;
        jobs_.push_front({member, true});  // somebody waits
        changed_.notify_all();
    }
    // For the first figures as long as the database may take; for newer ones not longer than a reader waits.
    const auto patience = member->page ? Seconds(2) : Seconds(15);
    changed_.wait_for(lock, patience, [&] { return ends_ || !member->is_page_read; });
    if (member->page) return member->page;
    if (member->page_problem) throw *member->page_problem;
    throw Problem(fmt::format("{}: no answer yet", name), "try again in a moment");
}

/// The lists of databases that cannot be read, but those with the name of a target, which has a row of its
/// own. The mutex must be held.
std::vector<std::pair<std::string, Problem>> Fleet::unlisted() const {
    auto found = unlisted_;
    for (const auto& m : members_)
        found.erase(
            std::remove_if(found.begin(), found.end(),
                           [&](const auto& list) { return m->is_target() && list.first == m->target.name; }),
            found.end());
    return found;
}

void Fleet::wait_for_first_round() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kFirstRound, [this] {
        return std::all_of(members_.begin(), members_.end(), [](const auto& m) { return m->was_asked; });
    });
}

std::string Fleet::metrics() {
    wait_for_first_round();
    std::vector<std::shared_ptr<const Families>> expositions;
    exposition::Text up;
    up.gauge("mau_target_up", "Whether the database answered the last time it was asked");
    std::string durations =
        "# HELP mau_target_scrape_seconds How long the database took the last time it was asked\n"
        "# TYPE mau_target_scrape_seconds gauge\n";
    {
        const std::lock_guard lock(mutex_);
        for (const auto& member : members_) {
            if (!member->was_asked || !member->is_target()) continue;
            const RoundAnswer& answer = member->answer;
            const std::string& name = member->target.name;
            if (answer.metrics) expositions.push_back(answer.metrics);
            up.sample(answer.is_up, {{"database", name}});
            durations += fmt::format("mau_target_scrape_seconds{{database=\"{}\"}} {:.6f}\n",
                                     exposition::escape_label(name), answer.seconds);
        }
        for (const auto& [name, problem] : unlisted()) up.sample(0, {{"database", name}});
    }
    return merge_expositions(expositions) + up.str() + durations;
}

nlohmann::ordered_json Fleet::overview() {
    wait_for_first_round();
    nlohmann::ordered_json figures;
    figures["at"] = utc_now();
    figures["program"] = MAU_VERSION;
    auto targets = nlohmann::ordered_json::array();
    const auto value = [](const std::optional<long long>& number) {
        return number ? nlohmann::ordered_json(*number) : nlohmann::ordered_json(nullptr);
    };
    const std::lock_guard lock(mutex_);
    auto all = members_;
    const auto rank = [](const auto& m) {
        const std::string& word = m->answer.health;
        if (!m->answer.is_up) return 0;
        if (word == "failing") return 1;
        return word == "ok" || word == "idle" || word == "standby" ? 3 : 2;
    };
    std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
    for (const auto& [name, problem] : unlisted()) {
        targets.push_back({{"name", name},
                           {"up", false},
                           {"health", "unreachable"},
                           {"reason", hide_user_ids(problem.what())},
                           {"is_listed", false}});
    }
    for (const auto& member : all) {
        if (!member->is_target()) continue;
        const RoundAnswer& answer = member->answer;
        targets.push_back({{"name", member->target.name},
                           {"up", answer.is_up},
                           {"health", answer.health},
                           {"reason", answer.reason},
                           {"mau", value(answer.mau)},
                           {"limit", value(answer.limit)},
                           {"wau", value(answer.wau)},
                           {"dau", value(answer.dau)}});
    }
    figures["targets"] = std::move(targets);
    return figures;
}

std::pair<bool, std::string> Fleet::health() {
    wait_for_first_round();
    const std::lock_guard lock(mutex_);
    bool any_up = false, all_asked = true;
    std::string lines;
    for (const auto& [name, problem] : unlisted()) lines += fmt::format("{}: unreachable\n", name);
    for (const auto& member : members_) {
        all_asked = all_asked && member->was_asked;
        if (!member->is_target()) continue;
        any_up = any_up || member->answer.is_up;
        lines += fmt::format("{}: {}\n", member->target.name, member->answer.health);
    }
    const bool is_well = any_up || (!all_asked && !members_.empty());
    return {is_well, (is_well ? "ok\n" : "no database answers\n") + lines};
}

}  // namespace mau::client
