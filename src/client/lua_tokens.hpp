// The tokens of a Lua file, as far as a configuration that is a list of options needs them.
#pragma once

#include <string>
#include <vector>

#include "client/yaml_file.hpp"

namespace mau::client {

struct LuaToken {
    enum class Kind { kName, kText, kSymbol };  ///< A number is a kName.
    Kind kind;
    std::string text;
    int line;

    bool is_name(const char* name) const { return kind == Kind::kName && text == name; }
    bool is_symbol(char symbol) const { return kind == Kind::kSymbol && text[0] == symbol; }
};

/// The tokens without comments. Raises Problem for a text or comment without an end.
std::vector<LuaToken> lua_tokens(const std::string& file, const std::string& text);

}  // namespace mau::client
