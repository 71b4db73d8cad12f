// homeserver.yaml. A file is read as Synapse reads it: the keys of the uppermost level replace those of
// earlier files.
#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "client/config_files.hpp"

namespace mau::client {
namespace {

constexpr long long kMostDays = 36500;
constexpr long long kMostUsers = std::numeric_limits<int>::max();

enum class Type { kBoolean, kUsers, kDays, kTextOrNull };

struct Key {
    const char* name;  ///< Also of the column of mau.settings.
    Type type;
};

constexpr Key kKeys[] = {
    {"limit_usage_by_mau", Type::kBoolean},    {"max_mau_value", Type::kUsers},
    {"mau_stats_only", Type::kBoolean},        {"mau_trial_days", Type::kDays},
    {"mau_limit_alerting", Type::kBoolean},    {"track_appservice_user_ips", Type::kBoolean},
    {"admin_contact", Type::kTextOrNull},      {"hs_disabled", Type::kBoolean},
    {"hs_disabled_message", Type::kTextOrNull}};

constexpr const char* kOtherKeys[] = {"server_name",
                                      "server_notices",
                                      "mau_limit_reserved_threepids",
                                      "mau_appservice_trial_days",
                                      "app_service_config_files",
                                      "user_ips_max_age"};

std::vector<std::string> known_keys() {
    std::vector<std::string> keys(std::begin(kOtherKeys), std::end(kOtherKeys));
    for (const Key& key : kKeys) keys.emplace_back(key.name);
    return keys;
}

/// How many characters must be inserted, removed or replaced to get from one text to the other.
std::size_t distance(const std::string& a, const std::string& b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
        }
    }
    return row[b.size()];
}

/// Raises Problem for a key that Synapse does not know, and that is nearly one that mau reads.
void check_key(const Node& key) {
    constexpr std::size_t kMisprint = 2;
    std::string name = key.text;
    std::replace(name.begin(), name.end(), '-', '_');
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    std::string nearest;
    std::size_t least = kMisprint + 1;
    for (const std::string& known : known_keys()) {
        if (known == key.text) return;
        const std::size_t d = distance(name, known);
        if (d < least) nearest = known;
        least = std::min(least, d);
    }
    if (least <= kMisprint)
        throw problem_at(key.place, fmt::format("unknown key {}", key.text),
                         fmt::format("write {}, or remove it", nearest));
    if (name.compare(0, 4, "mau_") == 0)
        throw problem_at(key.place, fmt::format("unknown key {}", key.text),
                         "Synapse does not read it; remove it");
}

Cell value_of(const Key& key, const Node& node) {
    switch (key.type) {
        case Type::kBoolean:
            return boolean_of(node, key.name) ? "true" : "false";
        case Type::kUsers:
            return std::to_string(integer_of(node, key.name, 0, kMostUsers));
        case Type::kDays:
            return std::to_string(integer_of(node, key.name, 0, kMostDays));
        case Type::kTextOrNull:
            break;
    }
    if (node.kind == Node::Kind::kNull) return std::nullopt;
    return text_of(node, key.name);
}

void read_server_notices(const Node& node, Wanted& wanted) {
    if (node.kind == Node::Kind::kNull) {
        wanted.columns["server_notices_mxid"] = {std::nullopt, node.place};
        return;
    }
    const Node& localpart = required(node, "system_mxid_localpart", "server_notices");
    const std::string text = text_of(localpart, "system_mxid_localpart");
    if (text.empty()) throw problem_at(localpart.place, "system_mxid_localpart is empty");
    wanted.notices_localpart = {text, localpart.place};
}

void read_reserved(const Node& node, Wanted& wanted) {
    std::vector<Threepid> reserved;
    for (const NodePtr& item : list_of(node, "mau_limit_reserved_threepids")) {
        const std::string name = "an entry of mau_limit_reserved_threepids";
        const Node& medium = required(*item, "medium", name);
        const Node& address = required(*item, "address", name);
        const Threepid threepid{text_of(medium, "medium"), text_of(address, "address")};
        if (threepid.medium != "email" && threepid.medium != "msisdn")
            throw problem_at(medium.place, fmt::format("unknown medium \"{}\"", threepid.medium),
                             "use email or msisdn");
        if (threepid.address.empty()) throw problem_at(address.place, "address is empty");
        if (std::find(reserved.begin(), reserved.end(), threepid) != reserved.end()) {
            wanted.warn(item->place,
                        fmt::format("{} {} is in the list twice", threepid.medium, threepid.address));
        } else {
            reserved.push_back(threepid);
        }
    }
    wanted.reserved = reserved;
}

void read_trial_days(const Node& node, Wanted& wanted) {
    std::map<std::string, int> trial_days;
    for (const Node::Entry& entry : map_of(node, "mau_appservice_trial_days")) {
        const std::string id = text_of(*entry.key, "the id of an appservice");
        if (id.empty() || id == "native")
            throw problem_at(entry.key->place, fmt::format("\"{}\" cannot be the id of an appservice", id));
        const std::string name = fmt::format("mau_appservice_trial_days of {}", id);
        trial_days[id] = static_cast<int>(integer_of(*entry.value, name, 0, kMostDays));
        warn_of_repetition(entry, wanted);
    }
    wanted.trial_days = trial_days;
}

/// Milliseconds of a number, or of a number with a unit.
long long duration_of(const Node& node) {
    constexpr long long kSecond = 1000, kDay = 86400 * kSecond;
    constexpr std::pair<char, long long> kUnits[] = {{'s', kSecond},        {'m', 60 * kSecond},
                                                     {'h', 3600 * kSecond}, {'d', kDay},
                                                     {'w', 7 * kDay},       {'y', 365 * kDay}};
    constexpr long long kHighest = std::numeric_limits<long long>::max();
    if (node.kind == Node::Kind::kInteger) return node.integer;
    std::string digits = node.kind == Node::Kind::kText ? node.text : "";
    long long unit = 1;
    for (const auto& [letter, length] : kUnits) {
        if (!digits.empty() && digits.back() == letter) {
            unit = length;
            digits.pop_back();
            break;
        }
    }
    const bool is_number =
        !digits.empty() && digits.size() < 19 &&
        std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); });
    if (!is_number) {
        throw problem_at(node.place,
                         fmt::format("user_ips_max_age must be a duration, not {}", describe(node)),
                         "write it as in 28d");
    }
    const long long number = std::stoll(digits);
    return number > kHighest / unit ? kHighest : number * unit;
}

void read_user_ips_max_age(const Node& node, Wanted& wanted) {
    constexpr long long kThirtyDays = 30LL * 86400 * 1000;
    if (node.kind == Node::Kind::kNull || duration_of(node) >= kThirtyDays) return;
    wanted.warn(
        node.place,
        fmt::format("user_ips_max_age is {}: Synapse removes last sightings before they are 30 days old, so "
                    "what mau has not read by then is lost",
                    node.text));
}

void read_key(const Node::Entry& entry, const AppserviceOptions& options, Wanted& wanted) {
    const std::string& name = entry.key->text;
    const Node& node = *entry.value;
    for (const Key& key : kKeys) {
        if (name == key.name) wanted.columns[name] = {value_of(key, node), node.place};
    }
    if (name == "server_name") wanted.columns[name] = {server_name_of(node, name), node.place};
    if (name == "server_notices") read_server_notices(node, wanted);
    if (name == "mau_limit_reserved_threepids") read_reserved(node, wanted);
    if (name == "mau_appservice_trial_days") read_trial_days(node, wanted);
    if (name == "app_service_config_files") read_registrations(node, name, options, wanted);
    if (name == "user_ips_max_age") read_user_ips_max_age(node, wanted);
}

}  // namespace

void read_synapse(const std::vector<std::string>& files, const AppserviceOptions& options, Wanted& wanted) {
    const std::vector<std::string> known = known_keys();
    std::map<std::string, Node::Entry> keys;
    std::vector<NodePtr> roots;  // of which `keys` has parts
    for (const std::string& file : files) {
        wanted.collect([&] {
            const NodePtr root = roots.emplace_back(read_yaml(file));
            if (root->kind == Node::Kind::kNull) return;
            for (const Node::Entry& entry : map_of(*root, "the file")) {
                if (entry.key->kind != Node::Kind::kText) continue;
                wanted.collect([&] { check_key(*entry.key); });
                if (std::find(known.begin(), known.end(), entry.key->text) == known.end()) continue;
                keys[entry.key->text] = entry;
                warn_of_repetition(entry, wanted);
            }
        });
    }
    for (const auto& [name, entry] : keys) {
        wanted.collect([&, &entry = entry] { read_key(entry, options, wanted); });
    }
}

}  // namespace mau::client
