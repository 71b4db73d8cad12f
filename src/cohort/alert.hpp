// Alerts: NOTIFY mau_limit when the limit becomes nearly full, full, or free again. README.md describes them.
#pragma once

#include "config/config.hpp"

namespace mau::cohort {

void init_alerts();

/// Why the state of the limit is looked at. Users who have joined may bring it up. A user who was refused
/// shows that it is full. A task looks at it in any case, and alone tells that it went down.
enum class AlertCause { joined, refused, task };

/// Has the state looked at before the transaction commits, as of an instant; of several, the newest.
/// `counted`: how many members there may be by now, where there are no counters.
void look_at_limit(const Config& config, Instant at, AlertCause cause,
                   std::optional<std::int64_t> counted = std::nullopt);

}  // namespace mau::cohort
