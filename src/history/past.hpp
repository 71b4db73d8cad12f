// Questions about the past. The tables of last sightings answer only for the present. For an instant before
// the newest sighting, the history answers, or the question is refused.
#pragma once

#include "rules/calendar.hpp"

#include "pg/spi.hpp"

namespace mau::past {

/// The sightings that make an instant a past one: those of members, or of all users.
enum class Whose { members, everybody };

/// An instant is past if there is a sighting more than this after it: callers' clocks may be ahead by as
/// much.
inline constexpr Instant kTolerance = 5 * 60 * 1000;

/// Whether there are sightings, or removed members, after an instant, so that last sightings cannot answer
/// for it. now() of the transaction is never past. Uses no clock. Needs SPI.
bool is_past(Instant at, Whose whose = Whose::members);

/// Refuses a question about the past: 22023, with the hint. Needs SPI.
void refuse(Instant at, const char* hint, Whose whose = Whose::members);

}  // namespace mau::past
