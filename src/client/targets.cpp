#include "client/targets.hpp"

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "client/yaml_file.hpp"

namespace mau::client {
namespace {

std::string quoted(const std::string& value) {
    std::string text = "'";
    for (const char c : value) {
        if (c == '\'' || c == '\\') text += '\\';
        text += c;
    }
    return text + "'";
}

bool is_conninfo(const std::string& text) {
    return text.find('=') != std::string::npos || text.find("://") != std::string::npos;
}

/// An entry of --targets: a conninfo, or a map with `conninfo`, `name` and `databases: all`.
struct Entry {
    std::string name;
    std::string conninfo;
    bool all = false;
};

class TargetsFile {
  public:
    explicit TargetsFile(const std::string& path) : path_(path) {}

    std::vector<Entry> read() {
        const std::string text = read_file(path_, "the file of --targets");
        YAML::Node root;
        try {
            root = YAML::Load(text);
        } catch (const YAML::Exception& e) {
            fail(e.mark, e.msg);
        }
        std::vector<Entry> entries;
        if (root.IsSequence()) {
            for (const YAML::Node& node : root) entries.push_back(entry(node));
        } else {
            entries.push_back(entry(root));
        }
        if (entries.empty()) fail(root.Mark(), "no targets");
        return entries;
    }

  private:
    [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what) {
        throw Problem(fmt::format("{}:{}: {}", path_, mark.line + 1, what),
                      "give a list of conninfo strings, or of maps with conninfo, name, and databases: all",
                      kBadInput);
    }

    Entry entry(const YAML::Node& node) {
        if (node.IsScalar()) return {"", node.Scalar(), false};
        if (!node.IsMap()) fail(node.Mark(), "a target is a conninfo string or a map");
        Entry result;
        for (const auto& pair : node) {
            const std::string key = pair.first.Scalar();
            if (!pair.second.IsScalar()) fail(pair.second.Mark(), fmt::format("{} must be a text", key));
            const std::string& value = pair.second.Scalar();
            if (key == "conninfo") {
                result.conninfo = value;
            } else if (key == "name") {
                result.name = value;
            } else if (key == "databases" && value == "all") {
                result.all = true;
            } else {
                fail(pair.first.Mark(), fmt::format("unknown: {}: {}", key, value));
            }
        }
        return result;
    }

    std::string path_;
};

std::string default_name(const std::string& text) {
    PQconninfoOption* const options = PQconninfoParse(text.c_str(), nullptr);
    std::string dbname, host;
    for (PQconninfoOption* o = options; o && o->keyword; ++o) {
        if (!o->val) continue;
        if (std::string(o->keyword) == "dbname") dbname = o->val;
        if (std::string(o->keyword) == "host") host = o->val;
        if (std::string(o->keyword) == "service" && dbname.empty()) dbname = o->val;
    }
    PQconninfoFree(options);
    if (host.empty() || host[0] == '/') return dbname;
    return fmt::format("{}@{}", dbname, host);
}

}  // namespace

std::string conninfo(const std::string& base,
                     const std::vector<std::pair<std::string, std::string>>& replacements) {
    std::vector<std::pair<std::string, std::string>> parts;
    if (is_conninfo(base)) {
        char* error = nullptr;
        PQconninfoOption* const options = PQconninfoParse(base.c_str(), &error);
        if (!options) {
            const std::string message = one_line(error ? error : "out of memory");
            PQfreemem(error);
            throw Problem(message, "-d takes a database name, key=value pairs or a postgresql:// URI",
                          kBadInput);
        }
        for (PQconninfoOption* o = options; o->keyword; ++o) {
            if (o->val) parts.emplace_back(o->keyword, o->val);
        }
        PQconninfoFree(options);
    } else if (!base.empty()) {
        parts.emplace_back("dbname", base);
    }
    for (const auto& [key, value] : replacements) {
        if (value.empty()) continue;
        const auto same = [&key = key](const auto& part) { return part.first == key; };
        parts.erase(std::remove_if(parts.begin(), parts.end(), same), parts.end());
        parts.emplace_back(key, value);
    }
    std::string text;
    for (const auto& [key, value] : parts) text += (text.empty() ? "" : " ") + key + '=' + quoted(value);
    return text;
}

Target one_target(const Options& options) {
    if (options.all || !options.targets_file.empty()) {
        throw Problem("this command is about one database", "name it with -d; leave out --all and --targets",
                      kBadInput);
    }
    const std::string text =
        conninfo(options.dbname, {{"host", options.host}, {"port", options.port}, {"user", options.user}});
    return {default_name(text), text};
}

namespace {

/// The databases of a server.
std::vector<Target> databases_of(const std::string& base, Seconds timeout) {
    // Any database will do to list the others; it need not have the extension.
    Connection connection({"", base}, timeout);
    const Rows rows = connection.run(
        "SELECT datname::text AS datname FROM pg_catalog.pg_database"
        " WHERE datallowconn AND NOT datistemplate AND pg_catalog.has_database_privilege(oid, 'CONNECT') "
        "ORDER BY datname");
    std::vector<Target> found;
    for (int r = 0; r < rows.size(); ++r) {
        const std::string name = rows.text(r, "datname");
        const std::string text = conninfo(base, {{"dbname", name}});
        found.push_back({default_name(text), text, /*is_found=*/true});
    }
    return found;
}

}  // namespace

std::vector<Target> all_targets(const Options& options, Seconds timeout,
                                std::vector<std::pair<std::string, Problem>>& problems) {
    const std::vector<std::pair<std::string, std::string>> replacements = {
        {"host", options.host}, {"port", options.port}, {"user", options.user}};
    if (options.targets_file.empty() && !options.all) return {one_target(options)};
    if (!options.targets_file.empty() && (options.all || !options.dbname.empty())) {
        throw Problem("--targets names the databases", "leave out -d and --all", kBadInput);
    }
    std::vector<Entry> entries = {{"", options.dbname, true}};
    if (!options.targets_file.empty()) entries = TargetsFile(options.targets_file).read();
    std::vector<Target> targets;
    for (const Entry& entry : entries) {
        const std::string text = conninfo(entry.conninfo, replacements);
        if (!entry.all) {
            targets.push_back({entry.name.empty() ? default_name(text) : entry.name, text});
            continue;
        }
        try {
            for (Target& target : databases_of(text, timeout)) {
                if (!entry.name.empty()) target.name = entry.name + '/' + target.name;
                target.found_by = entry.name.empty() ? default_name(text) : entry.name;
                targets.push_back(std::move(target));
            }
        } catch (const Problem& problem) {
            problems.emplace_back(entry.name.empty() ? default_name(text) : entry.name, problem);
        }
    }
    return targets;
}

std::vector<Target> distinct_targets(const Options& options, Seconds timeout,
                                     std::vector<std::pair<std::string, Problem>>& problems) {
    std::vector<Target> targets = all_targets(options, timeout, problems);
    std::map<std::string, int> uses;
    for (const Target& target : targets) ++uses[target.name];
    const auto lacks_extension = [&](const Target& target) {
        if (!target.is_found || uses[target.name] == 1) return false;
        try {
            open_database(target, timeout);
        } catch (const NoExtension&) {
            return true;
        } catch (const Problem&) {
            // It is reported when it is asked for its figures.
        }
        return false;
    };
    targets.erase(std::remove_if(targets.begin(), targets.end(), lacks_extension), targets.end());
    std::set<std::string> names;
    for (const Target& target : targets) {
        if (!names.insert(target.name).second) {
            throw Problem(fmt::format("two databases have the name {}", target.name),
                          "give each target of --targets a name of its own", kBadInput);
        }
    }
    return targets;
}

void in_parallel(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& work) {
    std::atomic<std::size_t> next{0};
    const auto run = [&] {
        for (std::size_t i; (i = next++) < count;) work(i);
    };
    std::vector<std::thread> pool;
    for (std::size_t t = 0; t < std::min(count, threads); ++t) pool.emplace_back(run);
    for (std::thread& thread : pool) thread.join();
}

}  // namespace mau::client
