#define MAU_PURE_SOURCE
#include "rules/json.hpp"

#include <cstdio>

namespace mau {

void append_json(std::string& to, std::string_view text) {
    to += '"';
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            to += '\\';
            to += c;
        } else if (byte < 0x20) {
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04x", byte);
            to += escape;
        } else {
            to += c;
        }
    }
    to += '"';
}

}  // namespace mau
