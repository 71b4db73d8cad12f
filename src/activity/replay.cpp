#include "activity/activity.hpp"

#include "activity/replay.hpp"

#include <algorithm>
#include <map>
#include <string>

#include "activity/registration.hpp"
#include "pg/locks.hpp"

namespace mau::replay {

namespace {

using activity::Sighting;

constexpr std::int64_t kBatch = 16384;

constexpr int kWarnings = 100;  // of one run; more would only fill the server log

/// Why the later reports of a user have to wait for the user's first one that was deferred again.
enum class HeldUpBy { interference, failure };

/// The state that the batches of a run share.
struct Run {
    const Config& config;
    const Instant now;
    std::map<std::string, HeldUpBy, std::less<>> held_up{};  // by user id
    int warnings = 0;

    void warn(const pg::Trouble& trouble) {
        if (++warnings > kWarnings) return;
        pg::guard([message = trouble.message.c_str()] {
            ereport(WARNING, (errmsg("mau could not carry out a deferred call: %s", message),
                              errhint("It stays in mau.deferred_calls for the next mau.fold().")));
        });
    }
};

/// Carries out a batch of calls.
class Batch {
  public:
    explicit Batch(Run& run) : run_(run), config_(run.config) {}

    void run(const std::vector<deferred::Call>& calls) {
        for (const deferred::Call& call : calls) {
            if (call.function == deferred::Function::record_activity) {
                sightings_.push_back({call.user_id, *call.at, call.platform, call.called_at});
                continue;
            }
            record();  // first, because the reports may change the accounts
            report(call);
        }
        record();
        deferred::append(again_, deferred::WhenLocked::raise);
    }

    std::int64_t deferred_again() const { return deferred_again_ + static_cast<std::int64_t>(again_.size()); }
    /// Whether calls were deferred again because they fail, and not because of other sessions.
    bool has_failures() const { return has_failures_; }

  private:
    void record() {
        if (sightings_.empty()) return;
        activity::clamp_to_now(config_, sightings_.data(), sightings_.size());
        activity::sort_newest(sightings_);
        record(sightings_.data(), sightings_.data() + sightings_.size());
        sightings_.clear();
    }

    /// Records sightings that are sorted by user. After an error the two halves are recorded one by one, and
    /// so on: only the sightings of the user who causes the error are deferred again.
    void record(const Sighting* first, const Sighting* last) {
        const auto count = static_cast<std::size_t>(last - first);
        std::vector<Outcome> outcomes(count);
        activity::RecordOptions options;
        options.horizon = run_.now - kWindow;
        options.is_task = true;
        activity::Recorded recorded;
        const auto trouble = pg::attempt(
            [&] { recorded = activity::record(config_, first, count, outcomes.data(), options); });
        if (!trouble) {
            deferred_again_ += recorded.deferred;
            return;
        }
        const Sighting* half = first + count / 2;
        while (half != first && (half - 1)->user_id == half->user_id) --half;
        if (half == first)
            half = std::find_if(first, last, [&](const Sighting& s) { return s.user_id != first->user_id; });
        if (half == last) {
            run_.warn(*trouble);
            has_failures_ = true;
            activity::defer(first, count, true);
            deferred_again_ += static_cast<std::int64_t>(count);
            return;
        }
        record(first, half);
        record(half, last);
    }

    /// A user's reports stay in their order: once one has to wait, the others wait, too.
    void report(const deferred::Call& call) {
        auto held_up = run_.held_up.find(call.user_id);
        if (held_up == run_.held_up.end()) {
            HeldUpBy reason = HeldUpBy::interference;
            if (registration::can_carry_out(config_, call)) {
                const auto trouble = pg::attempt([&] {
                    const pg::NoWaiting no_waiting;
                    registration::carry_out(config_, call);
                });
                if (!trouble) return;
                if (!pg::is_interference(*trouble)) {
                    reason = HeldUpBy::failure;
                    run_.warn(*trouble);
                }
            }
            held_up = run_.held_up.emplace(call.user_id, reason).first;
        }
        if (held_up->second == HeldUpBy::failure) has_failures_ = true;
        again_.push_back(call);
    }

    Run& run_;
    const Config& config_;
    std::vector<Sighting> sightings_;
    std::int64_t deferred_again_ = 0;  // sightings
    std::vector<deferred::Call> again_;
    bool has_failures_ = false;
};

}  // namespace

Replayed run(const Config& config, Instant now, std::int64_t max_calls) {
    Replayed replayed;
    Run run{config, now};
    const TimestampTz before = GetCurrentTimestamp();
    std::optional<std::int64_t> after;
    pg::Scratch scratch;
    for (bool done = false; !done;) {
        const std::int64_t left = max_calls - replayed.carried_out, room = std::min(left, kBatch);
        scratch.run([&] {
            const std::vector<deferred::Call> calls = deferred::take(after, before, room);
            Batch batch(run);
            batch.run(calls);
            const auto taken = static_cast<std::int64_t>(calls.size());
            const std::int64_t carried_out = taken - batch.deferred_again();
            replayed.carried_out += carried_out;
            replayed.more = carried_out == left;
            // Calls that are deferred again are the oldest still. This run goes on behind them, so that calls
            // that fail hold up no others; the next run begins with them. Where other sessions keep a whole
            // batch from being carried out, the rest is left to the next run.
            if (batch.deferred_again() > 0) after = calls.back().called_at;
            done = taken < room || replayed.more || (carried_out == 0 && !batch.has_failures());
        });
        scratch.reset();
    }
    scratch.close();
    return replayed;
}

}  // namespace mau::replay
