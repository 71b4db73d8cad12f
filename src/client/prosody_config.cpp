// prosody.cfg.lua: the name of the only host, and the administrator's address. Prosody has no limit. The file
// is a program; what is read here are its options as people write them: hosts, and contact_info with texts.
#include <glob.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include <fmt/format.h>

#include "client/config_files.hpp"
#include "client/lua_tokens.hpp"

namespace mau::client {
namespace {

struct Host {
    bool is_component = false;
    bool is_enabled = true;
    std::optional<Given<std::string>> contact;
    Place place;
};

class ProsodyReader {
  public:
    void read(const std::string& file, int depth) {
        constexpr int kDeepest = 10;
        if (depth > kDeepest) throw Problem(fmt::format("{}: it includes itself", file), "", kBadInput);
        const std::vector<LuaToken> tokens = lua_tokens(file, read_file(file));
        check_braces(file, tokens);
        std::string host;  // "" = all hosts
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const LuaToken& token = tokens[i];
            const Place place{file, token.line};
            const bool is_component = token.is_name("Component");
            if (is_component || begins_host(token)) {
                host = name_of_host(tokens, i, place);
                hosts_[host].is_component = is_component;
                hosts_[host].place = place;
            } else if (token.is_name("Include")) {
                include(text_after(tokens, i, place), place, depth);
            } else if (token.is_name("enabled") && is_assignment(tokens, i) && !host.empty()) {
                hosts_[host].is_enabled = !tokens[i + 2].is_name("false");
            } else if (token.is_name("contact_info") && is_assignment(tokens, i)) {
                read_contact(file, tokens, i + 2, host.empty() ? all_ : hosts_[host]);
            } else if (token.is_symbol('{')) {
                // The options of a host may be in braces; other braces are values.
                if (i < 2 || !is_name_of_host(tokens, i - 1)) i = end_of_braces(tokens, i);
            }
        }
    }

    void finish(Wanted& wanted) const {
        std::vector<std::pair<std::string, Host>> served;
        for (const auto& [name, host] : hosts_) {
            if (!host.is_component && host.is_enabled) served.emplace_back(name, host);
        }
        if (served.empty()) return;
        // Several hosts in one database: each is local.
        const bool is_one = served.size() == 1;
        wanted.columns["server_name"] = {is_one ? Cell(served[0].first) : Cell(), served[0].second.place};
        auto contact = all_.contact;
        if (is_one && served[0].second.contact) contact = served[0].second.contact;
        if (contact) wanted.columns["admin_contact"] = {contact->value, contact->place};
    }

  private:
    static bool is_assignment(const std::vector<LuaToken>& tokens, std::size_t i) {
        return i + 2 < tokens.size() && tokens[i + 1].is_symbol('=');
    }

    static bool begins_host(const LuaToken& token) {
        return token.is_name("VirtualHost") || token.is_name("Host");
    }

    static bool is_name_of_host(const std::vector<LuaToken>& tokens, std::size_t i) {
        return tokens[i].kind == LuaToken::Kind::kText && begins_host(tokens[i - 1]);
    }

    /// Raises Problem where a brace has no partner.
    static void check_braces(const std::string& file, const std::vector<LuaToken>& tokens) {
        std::vector<int> open;
        for (const LuaToken& token : tokens) {
            if (token.is_symbol('{')) open.push_back(token.line);
            if (!token.is_symbol('}')) continue;
            if (open.empty()) throw problem_at({file, token.line}, "} without its {");
            open.pop_back();
        }
        if (!open.empty()) throw problem_at({file, open.back()}, "{ without its }");
    }

    static std::size_t end_of_braces(const std::vector<LuaToken>& tokens, std::size_t i) {
        int depth = 0;
        for (; i < tokens.size(); ++i) {
            if (tokens[i].is_symbol('{')) ++depth;
            if (tokens[i].is_symbol('}') && --depth == 0) break;
        }
        return i;
    }

    /// The text that follows a name, maybe in parentheses.
    static std::string text_after(const std::vector<LuaToken>& tokens, std::size_t i, const Place& place) {
        std::size_t next = i + 1;
        if (next < tokens.size() && tokens[next].is_symbol('(')) ++next;
        if (next < tokens.size() && tokens[next].kind == LuaToken::Kind::kText) return tokens[next].text;
        throw problem_at(place, fmt::format("{} without a text", tokens[i].text),
                         "mau reads texts in quotes only");
    }

    static std::string name_of_host(const std::vector<LuaToken>& tokens, std::size_t i, const Place& place) {
        std::string name = text_after(tokens, i, place);
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return std::tolower(c); });
        if (name.empty() || name.find_first_of("@ \t\r\n") != std::string::npos)
            throw problem_at(place, fmt::format("\"{}\" is no host's name", name));
        return name;
    }

    void include(const std::string& pattern, const Place& place, int depth) {
        namespace fs = std::filesystem;
        const std::string path = (fs::path(place.file).parent_path() / pattern).string();
        glob_t found{};
        const int result = glob(path.c_str(), 0, nullptr, &found);
        const std::unique_ptr<glob_t, void (*)(glob_t*)> guard(&found, globfree);
        const bool is_wildcard = pattern.find_first_of("*?") != std::string::npos;
        if (result != 0 && !is_wildcard) throw problem_at(place, fmt::format("no file {}", path));
        for (std::size_t i = 0; result == 0 && i < found.gl_pathc; ++i) read(found.gl_pathv[i], depth + 1);
    }

    /// contact_info = { admin = "…" } or { admin = { "…", … } }: the first one.
    static void read_contact(const std::string& file, const std::vector<LuaToken>& tokens, std::size_t i,
                             Host& host) {
        if (!tokens[i].is_symbol('{')) return;
        const std::size_t end = end_of_braces(tokens, i);
        for (; i + 2 < end; ++i) {
            if (!tokens[i].is_name("admin") || !tokens[i + 1].is_symbol('=')) continue;
            const LuaToken& value = tokens[i + 2].is_symbol('{') ? tokens[i + 3] : tokens[i + 2];
            if (value.kind == LuaToken::Kind::kText) host.contact = {value.text, {file, value.line}};
            return;
        }
    }

    std::map<std::string, Host> hosts_;
    Host all_;
};

}  // namespace

void read_prosody(const std::vector<std::string>& files, Wanted& wanted) {
    ProsodyReader reader;
    for (const std::string& file : files) {
        wanted.collect([&] { reader.read(file, 0); });
    }
    reader.finish(wanted);
}

}  // namespace mau::client
