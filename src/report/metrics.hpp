// The published figures: a snapshot row for every refresh, and the exposition text for Prometheus.
#pragma once

#include "report/exposition.hpp"

#include "cohort/cohort.hpp"

namespace mau::metrics {

/// The figures of an instant.
struct Figures {
    std::int64_t mau;                     // the figure that the limit is about
    std::optional<std::int64_t> max;      // nothing: no limit
    cohort::Lately lately;                // members
    std::int64_t daily_active_users;      // all who were seen within a day: Synapse's daily figure
    std::vector<cohort::Group> accounts;  // not deactivated, as known now
};
Figures figures(const Config& config, Instant at);

/// The exposition at an instant, with Synapse's gauges of users under Synapse's names. Figures that take
/// a scan are those of the last snapshot up to then; without one they are left out. Figures of shared memory
/// need preload.
exposition::Text exposition(const Config& config, TimestampTz at);

}  // namespace mau::metrics
