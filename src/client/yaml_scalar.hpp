// The type and the value of a plain scalar of YAML 1.1.
#pragma once

#include "client/yaml_file.hpp"

namespace mau::client {

/// Sets the kind and the value of a scalar without quotes by its text, as PyYAML does.
void resolve_plain(Node& node);

/// Sets them for an explicit tag such as tag:yaml.org,2002:int. Returns false for a tag that is not YAML's
/// own or does not fit the text.
bool resolve_tagged(Node& node, const std::string& tag);

/// The line of the first byte that YAML does not allow: an invalid UTF-8 sequence or a control character; 0 =
/// none.
int line_of_invalid_byte(std::string_view text);

}  // namespace mau::client
