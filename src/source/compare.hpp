// mau's figures beside those of the attached server, and why they differ.
#pragma once

#include "source/reading.hpp"

namespace mau::source {

/// A figure of both sides.
struct Comparison {
    std::string figure;
    std::optional<std::int64_t> ours, theirs;
    std::optional<std::int64_t> unexplained;  // users on one side only for no known reason; nothing where
                                              // the server's side cannot be read
    std::string reason;                       // in words, all causes of the difference
};

/// Compares the figures user by user. `reading` has begun.
std::vector<Comparison> compare(Reading& reading, Instant at);

}  // namespace mau::source
