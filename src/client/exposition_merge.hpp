// Merges expositions of several databases into one: each family once, with the samples of all of them behind
// it.
#pragma once

#include "base/pure.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mau::client {

/// The families of an exposition in their order, each with its head (HELP and TYPE) and its samples.
struct Families {
    struct Family {
        std::string name;
        std::string head;
        std::string samples;
    };
    std::vector<Family> families;
};

/// Takes the text of an exposition apart. With a `database`, each sample gets it as its first label,
/// in place of a label `database` of its own. Samples
/// of no family, and lines that are neither samples nor HELP or TYPE, are left out.
Families parse_exposition(std::string_view text, std::string_view database = {});

/// The text of several expositions together. A family's head is that of the first which has it.
std::string merge_expositions(const std::vector<std::shared_ptr<const Families>>& expositions);

}  // namespace mau::client
