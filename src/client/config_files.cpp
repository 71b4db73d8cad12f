#include "client/config_files.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <regex>

#include <fmt/format.h>

namespace mau::client {

namespace fs = std::filesystem;

namespace {

bool ends_in(const std::string& text, const std::string& ending) {
    return text.size() >= ending.size() &&
           text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

std::vector<std::string> files_of(const std::string& folder, const std::string& ending,
                                  std::vector<std::string>& warnings) {
    std::vector<std::string> files;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
        const std::string path = at->path().string();
        std::error_code ignored;
        if (!at->is_regular_file(ignored)) continue;
        if (ends_in(path, ending)) {
            files.push_back(path);
        } else {
            warnings.push_back(fmt::format("{}: not read: its name does not end in {}", path, ending));
        }
    }
    if (error)
        throw Problem(fmt::format("{}: cannot read the folder: {}", folder, error.message()), "", kBadInput);
    std::sort(files.begin(), files.end());
    return files;
}

/// The paths at which a file may be that a configuration names, the likeliest first.
std::vector<fs::path> candidates(const fs::path& named, const Place& place,
                                 const AppserviceOptions& options) {
    std::vector<fs::path> paths;
    if (!options.folder.empty()) {
        // /data/irc/registration.yaml: data/irc/registration.yaml below the folder, then with less in front.
        for (auto part = named.begin(); part != named.end(); ++part) {
            fs::path below = options.folder;
            for (auto rest = part; rest != named.end(); ++rest) below /= rest->relative_path();
            paths.push_back(below);
        }
    } else {
        if (named.is_relative())
            paths.push_back((fs::path(place.file).parent_path() / named).lexically_normal());
        paths.push_back(named);
    }
    return paths;
}

fs::path find_file(const Node& node, const std::string& name, const AppserviceOptions& options) {
    const std::string named = text_of(node, name);
    int error = ENOENT;  // the first other one tells more
    for (const fs::path& path : candidates(named, node.place, options)) {
        if (access(path.c_str(), R_OK) == 0) return path;
        if (error == ENOENT) error = errno;
    }
    const std::string where = options.folder.empty() ? "" : fmt::format(" in {}", options.folder);
    throw problem_at(node.place, fmt::format("cannot read {}{}: {}", named, where, std::strerror(error)),
                     "--appservices names the folder on this machine where the registrations are; "
                     "--skip-appservices leaves mau.appservices as it is");
}

Registration registration_of(const Node& root) {
    Registration result;
    result.sender_localpart =
        text_of(required(root, "sender_localpart", "the registration"), "sender_localpart");
    if (result.sender_localpart.empty())
        throw problem_at(root.find("sender_localpart")->place, "sender_localpart is empty");
    const Node& namespaces = required(root, "namespaces", "the registration");
    map_of(namespaces, "namespaces");
    const Node* const users = namespaces.find("users");
    if (!users) return result;
    for (const NodePtr& user : list_of(*users, "users")) {
        const Node& regex = required(*user, "regex", "an entry of users");
        const std::string text = text_of(regex, "regex");
        if (boolean_of(required(*user, "exclusive", "an entry of users"), "exclusive"))
            result.exclusive_user_regexes.push_back({text, regex.place});
    }
    return result;
}

std::string id_of(const Node& root) {
    const Node& node = required(root, "id", "the registration");
    const std::string id = text_of(node, "id");
    if (id.empty() || id == "native" || id.find('|') != std::string::npos)
        throw problem_at(node.place, fmt::format("\"{}\" cannot be the id of an appservice", id));
    return id;
}

}  // namespace

std::vector<std::string> expand_folders(const std::vector<std::string>& paths, const std::string& ending,
                                        std::vector<std::string>& warnings) {
    std::vector<std::string> files;
    for (const std::string& path : paths) {
        std::error_code ignored;
        if (fs::is_directory(path, ignored)) {
            const std::vector<std::string> found = files_of(path, ending, warnings);
            files.insert(files.end(), found.begin(), found.end());
        } else {
            files.push_back(path);
        }
    }
    return files;
}

void read_registrations(const Node& list, const std::string& name, const AppserviceOptions& options,
                        Wanted& wanted) {
    if (options.skip) return;
    std::map<std::string, Given<Registration>> registrations;
    for (const NodePtr& item : list_of(list, name)) {
        wanted.collect([&] {
            const NodePtr root = read_yaml(find_file(*item, name, options).string());
            const std::string id = id_of(*root);
            const Place place = root->find("id")->place;
            const auto [at, is_new] =
                registrations.emplace(id, Given<Registration>{registration_of(*root), place});
            if (!is_new)
                throw problem_at(place, fmt::format("the id {} is in {}, too", id, text_of(at->second.place)),
                                 "each appservice has an id of its own");
        });
    }
    wanted.registrations = registrations;
}

std::string server_name_of(const Node& node, const std::string& name) {
    static const std::regex pattern("([0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?");
    const std::string text = text_of(node, name);
    if (text.size() > 255 || !std::regex_match(text, pattern)) {
        throw problem_at(node.place, fmt::format("{} must be a host's name, not \"{}\"", name, text),
                         "write it without https://, as in example.com");
    }
    return text;
}

void warn_of_repetition(const Node::Entry& entry, Wanted& wanted) {
    if (entry.earlier_line == 0) return;
    wanted.warn(entry.key->place, fmt::format("{} is in line {}, too; the last one counts", entry.key->text,
                                              entry.earlier_line));
}

}  // namespace mau::client
