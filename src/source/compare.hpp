// mau's figures beside those of the attached server, and why they differ.
#pragma once

#include "source/reading.hpp"

namespace mau::source {

/// A figure of both sides.
struct Comparison {
    std::string figure;
    std::int64_t ours, theirs;
    std::int64_t unexplained;  // users who are on one side only, for no reason that is known
    std::string reason;        // in words, all causes of the difference
};

/// Compares the figures user by user. `reading` has begun.
std::vector<Comparison> compare(Reading& reading, Instant at);

}  // namespace mau::source
