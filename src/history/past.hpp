// Questions about the past. Last sightings say what is so at present; for an instant before the newest of
// them the history answers, or the question is refused.
#pragma once

#include "rules/calendar.hpp"

#include "pg/spi.hpp"

namespace mau::past {

/// Whose sightings make an instant a past one.
enum class Whose { members, everybody };

/// A question lies in the past if there is a sighting later than this after its instant: as far as sightings
/// may be ahead of the clock of a caller.
inline constexpr Instant kTolerance = 5 * 60 * 1000;

/// Whether last sightings cannot tell what was so at an instant, because there are later ones, or members who
/// have left by a later time. The transaction's own time, now(), never lies in the past. Depends on no clock
/// otherwise. Needs SPI.
bool is_past(Instant at, Whose whose = Whose::members);

/// Refuses a question about the past: 22023, and the hint says what to ask instead. Needs SPI.
void refuse(Instant at, const char* hint, Whose whose = Whose::members);

}  // namespace mau::past
