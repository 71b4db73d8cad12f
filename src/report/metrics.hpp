// The figures for others: a snapshot row for every refresh, and the exposition text for Prometheus.
#pragma once

#include "cohort/cohort.hpp"

namespace mau::metrics {

/// The figures of an instant.
struct Figures {
    std::int64_t dau, wau, mau;       // natives who count
    std::optional<std::int64_t> max;  // nothing: no limit
    std::vector<cohort::ServiceCount> by_service;
};
Figures figures(const World& world, Instant at);

/// The exposition text at an instant, with Synapse's gauges of users under Synapse's names.
std::string exposition(const World& world, Instant at);

}  // namespace mau::metrics
