#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "client/settings.hpp"

namespace mau::client {
namespace {

constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

std::size_t place_in(const std::vector<Threepid>& list, const Threepid& threepid) {
    const auto found = std::find(list.begin(), list.end(), threepid);
    return found == list.end() ? kNowhere : static_cast<std::size_t>(found - list.begin());
}

/// The elements of a list that another list has, too.
std::vector<Threepid> common(const std::vector<Threepid>& list, const std::vector<Threepid>& other) {
    std::vector<Threepid> result;
    for (const Threepid& t : list) {
        if (place_in(other, t) != kNowhere) result.push_back(t);
    }
    return result;
}

Cell entry(std::size_t place, const Threepid& threepid) {
    if (place == kNowhere) return std::nullopt;
    return fmt::format("{}: {} {}", place + 1, threepid.medium, threepid.address);
}

/// Adds a row for each address that is removed, added, or moved past another one.
void add_reserved(Table& table, const std::vector<Threepid>& now, const std::vector<Threepid>& then) {
    const std::vector<Threepid> common_now = common(now, then), common_then = common(then, now);
    for (const Threepid& t : now) {
        if (place_in(then, t) == kNowhere)
            table.rows.push_back({"reserved_threepids", entry(place_in(now, t), t), std::nullopt});
    }
    for (const Threepid& t : then) {
        if (place_in(common_now, t) == place_in(common_then, t) && place_in(now, t) != kNowhere) continue;
        table.rows.push_back({"reserved_threepids", entry(place_in(now, t), t), entry(place_in(then, t), t)});
    }
}

Cell joined(const std::vector<std::string>& texts) {
    if (texts.empty()) return std::nullopt;
    return fmt::format("{}", fmt::join(texts, ", "));
}

void add_appservice(Table& table, const std::string& id, const Appservice* now, const Appservice* then) {
    const std::size_t before = table.rows.size();
    const auto add = [&](const char* column, const auto& value_of) {
        const Cell left = now ? value_of(*now) : Cell(), right = then ? value_of(*then) : Cell();
        if (left != right) table.rows.push_back({fmt::format("appservices.{}.{}", id, column), left, right});
    };
    add("trial_days",
        [](const Appservice& a) { return a.trial_days ? Cell(std::to_string(*a.trial_days)) : Cell(); });
    add("sender", [](const Appservice& a) { return a.sender; });
    add("exclusive_user_regexes", [](const Appservice& a) { return joined(a.exclusive_user_regexes); });
    if (table.rows.size() == before && !then)
        table.rows.push_back({"appservices." + id, "without settings", std::nullopt});
}

}  // namespace

Table difference(const Settings& now, const Settings& then) {
    Table table{{{"setting"}, {"now"}, {"file"}}, {}};
    for (const auto& [name, value] : then.columns) {
        if (now.column(name) != value) table.rows.push_back({name, now.column(name), value});
    }
    add_reserved(table, now.reserved, then.reserved);
    std::map<std::string, std::pair<const Appservice*, const Appservice*>> all;
    for (const auto& [id, appservice] : now.appservices) all[id].first = &appservice;
    for (const auto& [id, appservice] : then.appservices) all[id].second = &appservice;
    for (const auto& [id, pair] : all) {
        const auto& [left, right] = pair;
        if (!left || !right || !(*left == *right)) add_appservice(table, id, left, right);
    }
    return table;
}

}  // namespace mau::client
