#include "activity/activity.hpp"

#include "activity/replay.hpp"

#include <algorithm>
#include <set>

#include "activity/registration.hpp"
#include "pg/locks.hpp"

namespace mau::replay {

namespace {

using activity::Sighting;

constexpr std::int64_t kBatch = 16384;

void warn(const pg::Trouble& trouble) {
    pg::guard([message = trouble.message.c_str()] {
        ereport(WARNING, (errmsg("mau could not carry out a deferred call: %s", message),
                          errhint("It stays in mau.deferred_calls for the next mau.fold().")));
    });
}

/// Carries out a batch of calls.
class Batch {
  public:
    Batch(const Config& config, Instant now) : config_(config), now_(now) {}

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
        options.horizon = now_ - kWindow;
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
            warn(*trouble);
            activity::defer(first, count, true);
            deferred_again_ += static_cast<std::int64_t>(count);
            return;
        }
        record(first, half);
        record(half, last);
    }

    /// A user's reports stay in their order: once one has to wait, the others wait, too.
    void report(const deferred::Call& call) {
        if (held_up_.count(call.user_id) == 0 && registration::can_carry_out(config_, call)) {
            const auto trouble = pg::attempt([&] {
                const pg::NoWaiting no_waiting;
                registration::carry_out(config_, call);
            });
            if (!trouble) return;
            if (!pg::is_interference(*trouble)) warn(*trouble);
        }
        held_up_.insert(call.user_id);
        again_.push_back(call);
    }

    const Config& config_;
    const Instant now_;
    std::vector<Sighting> sightings_;
    std::int64_t deferred_again_ = 0;  // sightings
    std::vector<deferred::Call> again_;
    std::set<std::string_view> held_up_;
};

}  // namespace

Replayed run(const Config& config, Instant now, std::int64_t max_calls) {
    Replayed replayed;
    const TimestampTz before = GetCurrentTimestamp();
    pg::Scratch scratch;
    for (bool done = false; !done;) {
        const std::int64_t left = max_calls - replayed.carried_out, room = std::min(left, kBatch);
        scratch.run([&] {
            const std::vector<deferred::Call> calls = deferred::take(before, room);
            Batch batch(config, now);
            batch.run(calls);
            const auto taken = static_cast<std::int64_t>(calls.size());
            replayed.carried_out += taken - batch.deferred_again();
            // Calls that are deferred again are the oldest still: the next run begins with them.
            done = taken < room || taken == left || batch.deferred_again() > 0;
            replayed.more = taken == left && batch.deferred_again() == 0;
        });
        scratch.reset();
    }
    scratch.close();
    return replayed;
}

}  // namespace mau::replay
