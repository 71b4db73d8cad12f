// Whether the state of the limit may have changed, for alerts (cohort/alert.hpp).
#include <algorithm>
#include <limits>

#include "seats/tally.hpp"

namespace mau::seats {

namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

}  // namespace

bool begin_commit(std::uint64_t thresholds, bool was_full) {
    Counters* mine = counters();
    if (!mine) return true;
    std::int64_t joined = 0;
    for (const Level& level : tally) joined += level.joined;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_EXCLUSIVE); });
    mine->joined += joined;
    mine->committing += joined;
    const bool may_rise = mine->look_for != thresholds || mine->joined >= mine->look_at ||
                          (was_full && mine->look_at != kNever);
    LWLockRelease(&mine->lock);
    committing = joined;
    return may_rise;
}

std::optional<AtCommit> at_commit(const Config& config) {
    Counters* mine = counters();
    if (!mine || has_unannounced()) return std::nullopt;
    std::int64_t own = -committing;  // in place of what others see of it
    for (const Level& level : tally) own += level.rows;
    pg::guard([&] { LWLockAcquire(&mine->lock, LW_SHARED); });
    const bool known = are_known(config, mine) && mine->unsettled_dml == 0;
    const AtCommit now{mine->rows + mine->committing + own, mine->joined};
    LWLockRelease(&mine->lock);
    return known ? std::optional(now) : std::nullopt;
}

void look_after(std::uint64_t thresholds, std::int64_t joined, std::optional<std::int64_t> more) {
    Counters* mine = counters();
    if (!mine) return;
    LWLockAcquire(&mine->lock, LW_EXCLUSIVE);
    mine->look_for = thresholds;
    mine->look_at = more ? joined + *more : kNever;
    LWLockRelease(&mine->lock);
}

}  // namespace mau::seats
