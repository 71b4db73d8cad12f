// Carries out deferred calls (activity/deferred.hpp): part of mau.fold.
#pragma once

#include "config/config.hpp"

namespace mau::replay {

struct Replayed {
    std::int64_t carried_out = 0;
    bool more = false;  // calls that were there before are left, because there were too many
};

/// Carries out at most `max_calls` deferred calls, in the order in which they were made. A call that would
/// still wait for another transaction, or that fails, is deferred again; calls behind it are carried out.
/// Sightings that are no longer within the window of `now` add no member.
Replayed run(const Config& config, Instant now, std::int64_t max_calls);

}  // namespace mau::replay
