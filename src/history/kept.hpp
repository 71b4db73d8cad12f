// The days that the history still has. A purge leaves of older days only which users were active at all.
#pragma once

#include "history/history.hpp"

namespace mau::history {

/// The days that no purge has touched, by the snapshot of the caller's statement. Needs SPI.
class KeptDays {
  public:
    KeptDays();

    /// The first of these days; nothing if no day was purged.
    std::optional<Day> first() const { return first_ == kBefore ? std::nullopt : std::optional(first_); }
    /// Whether the history has a day and all days after it.
    bool reach(Day day) const { return day >= first_; }
    /// A figure about the days from `day` on; nothing if some of them were purged.
    template <class Figure>
    std::optional<Figure> figure(Day day, Figure value) const {
        return reach(day) ? std::optional(value) : std::nullopt;
    }
    /// Raises 22023 if a question about the days from `day` on cannot be answered.
    void require(Day day) const;

  private:
    Day first_;
};

}  // namespace mau::history
