// Strings in JSON.
#pragma once

#include "base/pure.hpp"

#include <string>
#include <string_view>

namespace mau {

/// Appends `text` as a JSON string (RFC 8259, section 7).
void append_json(std::string& to, std::string_view text);

}  // namespace mau
