// dendrite.yaml: the server's name, the user of server notices, and the appservices. Dendrite has no limit.
#include <fmt/format.h>

#include "client/config_files.hpp"

namespace mau::client {
namespace {

void read_server_notices(const Node& notices, Wanted& wanted) {
    map_of(notices, "server_notices");
    const Node* const enabled = notices.find("enabled");
    if (!enabled || !boolean_of(*enabled, "enabled")) {
        wanted.columns["server_notices_mxid"] = {std::nullopt, notices.place};
        return;
    }
    const Node& localpart = required(notices, "local_part", "server_notices");
    const std::string text = text_of(localpart, "local_part");
    if (text.empty()) throw problem_at(localpart.place, "local_part is empty");
    wanted.notices_localpart = {text, localpart.place};
}

}  // namespace

void read_dendrite(const std::vector<std::string>& files, const AppserviceOptions& options, Wanted& wanted) {
    if (files.size() != 1)
        throw Problem(fmt::format("{}: Dendrite reads one file only", files.back()),
                      "name dendrite.yaml only", kBadInput);
    const NodePtr root = read_yaml(files[0]);
    map_of(*root, "the file");
    wanted.collect([&] {
        const Node* const global = root->find("global");
        if (!global) return;
        map_of(*global, "global");
        if (const Node* const name = global->find("server_name"))
            wanted.columns["server_name"] = {server_name_of(*name, "server_name"), name->place};
        if (const Node* const notices = global->find("server_notices")) read_server_notices(*notices, wanted);
    });
    wanted.collect([&] {
        const Node* const api = root->find("app_service_api");
        const Node* const list = api ? api->find("config_files") : nullptr;
        if (!list) return;
        Node nothing;
        nothing.kind = Node::Kind::kList;
        read_registrations(list->kind == Node::Kind::kNull ? nothing : *list, "config_files", options,
                           wanted);
    });
}

}  // namespace mau::client
