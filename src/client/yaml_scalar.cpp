#include "client/yaml_scalar.hpp"

#include <algorithm>
#include <cstdint>
#include <regex>

namespace mau::client {
namespace {

using Kind = Node::Kind;

/// Longer scalars are texts. (std::regex is recursive.)
constexpr std::size_t kLongestNumber = 100;

bool is_one_of(const std::string& text, std::initializer_list<const char*> words) {
    return std::any_of(words.begin(), words.end(), [&](const char* word) { return text == word; });
}

bool is_true(const std::string& text) {
    return is_one_of(text, {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"});
}

bool is_false(const std::string& text) {
    return is_one_of(text, {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"});
}

bool is_null(const std::string& text) {
    return is_one_of(text, {"", "~", "null", "Null", "NULL"});
}

bool matches(const std::string& text, const std::regex& pattern) {
    return text.size() <= kLongestNumber && std::regex_match(text, pattern);
}

bool is_integer(const std::string& text) {
    static const std::regex pattern(
        "[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+"
        "|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+");
    return matches(text, pattern);
}

bool is_number(const std::string& text) {
    static const std::regex pattern(
        "[-+]?[0-9][0-9_]*\\.[0-9_]*([eE][-+][0-9]+)?|\\.[0-9][0-9_]*([eE][-+][0-9]+)?"
        "|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\\.[0-9_]*|[-+]?\\.(inf|Inf|INF)|\\.(nan|NaN|NAN)");
    return matches(text, pattern);
}

bool is_time(const std::string& text) {
    static const std::regex pattern(
        "[0-9]{4}-[0-9]{2}-[0-9]{2}"
        "|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \\t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\\.[0-9]*)?"
        "([ \\t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?");
    return matches(text, pattern);
}

int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c - 'A' + 10;
}

/// The value of what is_integer, or the nearest one.
long long integer(const std::string& text) {
    constexpr long long kHighest = std::numeric_limits<long long>::max();
    std::size_t at = 0;
    const bool is_negative = text[0] == '-';
    if (text[0] == '-' || text[0] == '+') ++at;
    long long base = 10;
    if (text.compare(at, 2, "0x") == 0 || text.compare(at, 2, "0b") == 0) {
        base = text[at + 1] == 'x' ? 16 : 2;
        at += 2;
    } else if (text[at] == '0') {
        base = 8;
    }
    __int128 value = 0, before = 0;  // before: the parts in front of the last colon
    for (; at < text.size(); ++at) {
        if (text[at] == '_') continue;
        if (text[at] == ':') {
            before = (before + value) * 60;
            value = 0;
        } else {
            value = value * base + digit(text[at]);
        }
        value = std::min<__int128>(value, kHighest);
        before = std::min<__int128>(before, kHighest);
    }
    value = std::min<__int128>(before + value, kHighest);
    return static_cast<long long>(is_negative ? -value : value);
}

/// The number of bytes of the UTF-8 sequence at the beginning of a text, and its code point; 0 for an invalid
/// one.
std::size_t decode(std::string_view text, std::uint32_t& point) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const std::size_t size = byte(0) < 0x80       ? 1
                             : byte(0) >> 5 == 6  ? 2
                             : byte(0) >> 4 == 14 ? 3
                             : byte(0) >> 3 == 30 ? 4
                                                  : 0;
    if (size == 0 || size > text.size()) return 0;
    point = size == 1 ? byte(0) : byte(0) & (0x7F >> size);
    for (std::size_t i = 1; i < size; ++i) {
        if (byte(i) >> 6 != 2) return 0;
        point = point << 6 | (byte(i) & 0x3F);
    }
    constexpr std::uint32_t kLowest[] = {0, 0, 0x80, 0x800, 0x10000};
    return point < kLowest[size] ? 0 : size;
}

bool is_allowed(std::uint32_t point) {
    return point == '\t' || point == '\n' || point == '\r' || (point >= 0x20 && point <= 0x7E) ||
           point == 0x85 || (point >= 0xA0 && point <= 0xD7FF) || (point >= 0xE000 && point <= 0xFFFD) ||
           (point >= 0x10000 && point <= 0x10FFFF);
}

}  // namespace

void resolve_plain(Node& node) {
    const std::string& text = node.text;
    node.kind = Kind::kText;
    if (is_null(text)) {
        node.kind = Kind::kNull;
    } else if (is_true(text) || is_false(text)) {
        node.kind = Kind::kBoolean;
        node.boolean = is_true(text);
    } else if (is_integer(text)) {
        node.kind = Kind::kInteger;
        node.integer = integer(text);
    } else if (is_number(text)) {
        node.kind = Kind::kNumber;
    } else if (is_time(text)) {
        node.kind = Kind::kTime;
    }
}

bool resolve_tagged(Node& node, const std::string& tag) {
    const std::string prefix = "tag:yaml.org,2002:";
    if (tag.compare(0, prefix.size(), prefix) != 0) return false;
    const std::string type = tag.substr(prefix.size());
    if (type == "str") {
        node.kind = Kind::kText;
        return true;
    }
    resolve_plain(node);
    if (type == "float" && node.kind == Kind::kInteger) node.kind = Kind::kNumber;
    const auto is = [&](const char* name, Kind kind) { return type == name && node.kind == kind; };
    return is("int", Kind::kInteger) || is("bool", Kind::kBoolean) || is("null", Kind::kNull) ||
           is("float", Kind::kNumber) || is("timestamp", Kind::kTime);
}

int line_of_invalid_byte(std::string_view text) {
    int line = 1;
    while (!text.empty()) {
        std::uint32_t point = 0;
        const std::size_t size = decode(text, point);
        if (size == 0 || !is_allowed(point)) return line;
        if (point == '\n') ++line;
        text.remove_prefix(size);
    }
    return 0;
}

}  // namespace mau::client
