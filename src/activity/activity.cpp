#include "activity/activity.hpp"

#include <algorithm>
#include <tuple>

#include "activity/slice.hpp"
#include "pg/values.hpp"
#include "seats/seats.hpp"

namespace mau::activity {

namespace {

std::int64_t record_slice(const Config& config, std::vector<Step>& steps, const RecordOptions& options) {
    Slice slice(config, steps, options);
    slice.record();
    const std::int64_t deferred = slice.append_deferred();
    slice.release();
    return deferred;
}

}  // namespace

void sort_newest(std::vector<Sighting>& sightings) {
    auto same = [](const Sighting& a, const Sighting& b) {
        return a.user_id == b.user_id && a.platform == b.platform && day_of(a.at) == day_of(b.at);
    };
    std::sort(sightings.begin(), sightings.end(), [](const Sighting& a, const Sighting& b) {
        if (a.user_id != b.user_id) return a.user_id < b.user_id;
        return a.at != b.at ? a.at > b.at : a.platform < b.platform;
    });
    auto end = sightings.begin();
    for (const Sighting& sighting : sightings) {
        bool again = false;
        for (auto kept = end; !again && kept != sightings.begin();) {
            --kept;
            if (kept->user_id != sighting.user_id || day_of(kept->at) != day_of(sighting.at)) break;
            again = same(*kept, sighting);
        }
        if (!again) *end++ = sighting;
    }
    sightings.erase(end, sightings.end());
}

namespace {

/// Whether sightings can be recorded now. Where they never can be, on a standby, that is an error.
bool can_record(const Config& config) {
    if (!recording(config.settings)) return false;
    if (RecoveryInProgress()) forbid_read_only();
    return !RecoveryInProgress() && can_write_rows(config);
}

}  // namespace

void defer(const Sighting* sightings, std::size_t count, bool is_task) {
    if (RecoveryInProgress()) forbid_read_only();
    std::vector<deferred::Call> calls;
    add_calls(sightings, sightings + count, calls);
    deferred::append(calls, is_task ? deferred::WhenLocked::raise : deferred::WhenLocked::warn);
}

void clamp_to_now(const Config& config, Sighting* sightings, std::size_t count) {
    if (!config.settings.limit_usage_by_mau) return;
    const Instant now = pg::to_instant(GetCurrentTimestamp());
    std::int64_t ahead = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (sightings[i].at <= now + kAhead) continue;
        sightings[i].at = now;
        ++ahead;
    }
    if (ahead > 0) seats::count_ahead(ahead);
}

std::size_t drop_cached_sightings(std::vector<Sighting>& sightings) {
    std::vector<cache::Key> all, news;
    all.reserve(sightings.size());
    auto end = sightings.begin();
    const auto unique = [](std::vector<cache::Key>& keys) {
        auto words = [](const cache::Key& key) { return std::tie(key.first, key.second); };
        std::sort(keys.begin(), keys.end(),
                  [&](const cache::Key& a, const cache::Key& b) { return words(a) < words(b); });
        return std::unique(keys.begin(), keys.end(),
                           [&](const cache::Key& a, const cache::Key& b) { return words(a) == words(b); }) -
               keys.begin();
    };
    for (const Sighting& sighting : sightings) {
        const cache::Key key = cache::key_of(sighting.user_id);
        if (!key.usable) return 0;
        all.push_back(key);
        if (cache::hit(key, sighting.at, client_of(sighting.platform), false)) continue;
        news.push_back(key);
        *end++ = sighting;
    }
    sightings.erase(end, sightings.end());
    return static_cast<std::size_t>(unique(all) - unique(news));
}

Recorded record(const Config& config, const Sighting* sightings, std::size_t count, Outcome* outcomes,
                const RecordOptions& options) {
    const Outcome otherwise = recording(config.settings) ? Outcome::unchanged : Outcome::off;
    const bool possible = can_record(config);
    Recorded recorded;
    std::vector<Step> steps;
    if (!possible && recording(config.settings)) {
        defer(sightings, count, options.is_task);
        recorded.deferred = static_cast<std::int64_t>(count);
    }
    pg::Scratch scratch;
    for (const Sighting *sighting = sightings, *end = sightings + count; sighting != end; ++recorded.users) {
        const Sighting* const newest = sighting;
        const cache::Key key = possible ? cache::key_of(newest->user_id) : cache::Key();
        bool news = false;
        for (; sighting != end && sighting->user_id == newest->user_id; ++sighting)
            news = news || (possible && !cache::hit(key, sighting->at, client_of(sighting->platform)));
        Outcome* const outcome = &outcomes[recorded.users];
        *outcome = otherwise;
        if (news) {
            if (steps.empty()) steps.reserve(std::min(kSlice, count));
            steps.push_back(Step{{newest, sighting, key, outcome}});
        }
        if (steps.size() == kSlice || (sighting == end && !steps.empty())) {
            scratch.run([&] { recorded.deferred += record_slice(config, steps, options); });
            steps.clear();
            scratch.reset();
        }
    }
    scratch.close();
    return recorded;
}

Outcome record(const Config& config, const Sighting& sighting, const cache::Key& key) {
    if (!recording(config.settings)) return Outcome::off;
    Outcome outcome = Outcome::unchanged;
    if (!can_record(config)) {
        defer(&sighting, 1);
        return outcome;
    }
    std::vector<Step> steps{Step{{&sighting, &sighting + 1, key, &outcome}}};
    record_slice(config, steps, RecordOptions());
    return outcome;
}

}  // namespace mau::activity
