// A slice of users: locks them, reads their rows, judges, takes seats and writes.
#pragma once

#include <functional>

#include "activity/step.hpp"
#include "activity/deferred.hpp"

namespace mau::activity {

/// Locks the users without waiting. A user whose lock another session holds is deferred.
class Slice {
  public:
    Slice(const Config& config, std::vector<Step>& steps, const RecordOptions& options);

    /// Records the sightings. `may_go_on`, if given, is called for each user before anything is written for
    /// it.
    void record(const std::function<bool(const Step&)>& may_go_on = nullptr);
    /// Appends the deferred sightings of the slice to mau.deferred_calls, and returns their number.
    std::int64_t append_deferred() const;
    /// Gives the locks back. After an error the end of the transaction does so.
    void release();

  private:
    const Config& config_;
    std::vector<Step>& steps_;
    const RecordOptions& options_;
};

/// Adds the calls that would record these sightings.
void add_calls(const Sighting* sighting, const Sighting* end, std::vector<deferred::Call>& calls);

/// Raises 25006 where nothing can be written.
void forbid_read_only();

}  // namespace mau::activity
