// A YAML file with the lines of its values. Scalars are what PyYAML makes of them, which reads Synapse's
// files: YAML 1.1, where `yes` is true, 0100 is 64, 1:30 is 90, `<<` merges maps, and the last of two equal
// keys counts.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/problem.hpp"

namespace mau::client {

/// A line of a file.
struct Place {
    std::string file;
    int line = 1;
};

/// FILE:LINE of a place.
std::string text_of(const Place& place);

/// A problem of what a file says.
Problem problem_at(const Place& place, std::string_view what, std::string hint = "");

struct Node;
using NodePtr = std::shared_ptr<const Node>;

struct Node {
    enum class Kind { kNull, kBoolean, kInteger, kNumber, kText, kTime, kList, kMap, kOther };
    struct Entry {
        NodePtr key;
        NodePtr value;
        int earlier_line = 0;  ///< Of an entry with the same key in the same map, which does not count.
    };

    Kind kind = Kind::kNull;
    Place place;
    std::string text;       ///< A scalar as it is written, without its quotes.
    std::string tag;        ///< Of kOther, a value that only another program can read.
    bool is_plain = false;  ///< Whether a scalar has no quotes.
    bool boolean = false;
    long long integer = 0;  ///< The nearest one where it is out of range.
    std::vector<NodePtr> items;
    std::vector<Entry> entries;

    /// The entry of a map with this text as its key, or nullptr.
    const Entry* entry(std::string_view key) const;
    /// Its value, or nullptr.
    const Node* find(std::string_view key) const;
};

/// The whole file. Raises Problem where it cannot be read, or is larger than 4 MB; `what` names the file in
/// the hint.
std::string read_file(const std::string& path, std::string_view what = "the homeserver's configuration");

/// The one document of a file; null for an empty one. Raises Problem.
NodePtr read_yaml(const std::string& path);

/// Describes a value for messages: `the text "x"`, `a list`.
std::string describe(const Node& node);

/// The value of a type, where `name` is what messages call it. Each raises Problem where it is of another
/// type.
bool boolean_of(const Node& node, const std::string& name);
long long integer_of(const Node& node, const std::string& name, long long from, long long to);
std::string text_of(const Node& node, const std::string& name);
const std::vector<NodePtr>& list_of(const Node& node, std::string_view name);
const std::vector<Node::Entry>& map_of(const Node& node, std::string_view name);

/// The value of a key that a map must have. Raises Problem.
const Node& required(const Node& map, std::string_view key, std::string_view name);

}  // namespace mau::client
