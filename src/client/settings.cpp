#include "client/settings.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace mau::client {
namespace {

constexpr const char* kSettingsQuery = R"sql(
SELECT limit_usage_by_mau::text, max_mau_value::text, mau_stats_only::text, mau_trial_days::text,
       mau_limit_alerting::text, track_appservice_user_ips::text, admin_contact, hs_disabled::text,
       hs_disabled_message, server_notices_mxid, server_name
FROM mau.settings)sql";

constexpr const char* kInsertReserved = R"sql(
INSERT INTO mau.reserved_threepids (medium, address)
SELECT t.pair ->> 0, t.pair ->> 1 FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY t (pair, place) ORDER BY t.place)sql";

constexpr const char* kWriteAppservice = R"sql(
INSERT INTO mau.appservices (id, trial_days, sender, exclusive_user_regexes)
VALUES ($1, $2, $3, ARRAY(SELECT r.regex FROM jsonb_array_elements_text($4::jsonb) WITH ORDINALITY r (regex, place)
                          ORDER BY r.place))
ON CONFLICT (id) DO UPDATE SET trial_days = EXCLUDED.trial_days, sender = EXCLUDED.sender,
    exclusive_user_regexes = EXCLUDED.exclusive_user_regexes)sql";

std::string mxid(const std::string& localpart, const Settings& settings, const Place& place) {
    if (const Cell& server_name = settings.column("server_name")) {
        return fmt::format("@{}:{}", localpart, *server_name);
    }
    throw problem_at(place, "neither the files nor mau.settings say what server_name is",
                     "name the file that has it, too (Debian's Synapse: the folder conf.d)");
}

/// Synapse's limit is 0 while limit_usage_by_mau is off.
void apply_limit(Settings& then, Wanted& wanted) {
    const auto limit = wanted.columns.find("limit_usage_by_mau");
    const auto highest = wanted.columns.find("max_mau_value");
    if (limit == wanted.columns.end() && highest == wanted.columns.end()) return;
    if (then.column("limit_usage_by_mau") == "false") {
        then.columns["max_mau_value"] = "0";
    } else if (highest == wanted.columns.end()) {
        wanted.warn(
            limit->second.place,
            fmt::format(
                "limit_usage_by_mau without max_mau_value: Synapse lets nobody in; mau keeps its limit of {}",
                *then.column("max_mau_value")));
    }
}

void warn_of_no_counting(const Settings& then, Wanted& wanted) {
    if (then.column("limit_usage_by_mau") == "true" || then.column("mau_stats_only") == "true") return;
    for (const char* name : {"mau_stats_only", "limit_usage_by_mau"}) {
        const auto found = wanted.columns.find(name);
        if (found == wanted.columns.end()) continue;
        wanted.warn(found->second.place,
                    "with limit_usage_by_mau and mau_stats_only off, mau records nobody");
        return;
    }
}

void merge_appservices(Settings& then, const Wanted& wanted) {
    if (wanted.registrations) {
        for (auto& [id, appservice] : then.appservices)
            appservice = {appservice.trial_days, std::nullopt, {}};
        for (const auto& [id, given] : *wanted.registrations) {
            Appservice& appservice = then.appservices[id];
            appservice.sender = mxid(given.value.sender_localpart, then, given.place);
            for (const auto& regex : given.value.exclusive_user_regexes)
                appservice.exclusive_user_regexes.push_back(regex.value);
        }
    }
    if (wanted.trial_days) {
        for (auto& [id, appservice] : then.appservices) appservice.trial_days = std::nullopt;
        for (const auto& [id, days] : *wanted.trial_days) then.appservices[id].trial_days = days;
    }
    if (!wanted.registrations && !wanted.trial_days) return;
    // A row that says nothing is not needed.
    for (auto row = then.appservices.begin(); row != then.appservices.end();) {
        row = row->second == Appservice() ? then.appservices.erase(row) : std::next(row);
    }
}

}  // namespace

void Wanted::warn(const Place& place, std::string_view what) {
    warnings.push_back(fmt::format("{}: {}", text_of(place), what));
}

Settings load_settings(Connection& connection) {
    Settings settings;
    const Rows columns = connection.run(kSettingsQuery);
    if (columns.size() != 1) {
        throw Problem(fmt::format("database {}: mau.settings has no row", connection.name()),
                      "as the extension's owner: INSERT INTO mau.settings DEFAULT VALUES");
    }
    const Table table = columns.table();
    for (std::size_t c = 0; c < table.columns.size(); ++c)
        settings.columns[table.columns[c].name] = table.rows[0][c];

    const Rows reserved = connection.run(
        "SELECT medium, address FROM mau.reserved_threepids ORDER BY position, medium, address");
    for (int r = 0; r < reserved.size(); ++r)
        settings.reserved.push_back({reserved.text(r, "medium"), reserved.text(r, "address")});

    const Rows appservices = connection.run(
        "SELECT id, trial_days, sender, to_jsonb(exclusive_user_regexes)::text AS regexes FROM "
        "mau.appservices");
    for (int r = 0; r < appservices.size(); ++r) {
        Appservice& appservice = settings.appservices[appservices.text(r, "id")];
        if (appservices.cell(r, "trial_days"))
            appservice.trial_days = static_cast<int>(appservices.integer(r, "trial_days"));
        appservice.sender = appservices.cell(r, "sender");
        appservice.exclusive_user_regexes = nlohmann::json::parse(appservices.text(r, "regexes"));
    }
    return settings;
}

Settings merge(const Settings& now, Wanted& wanted) {
    Settings then = now;
    for (const auto& [name, given] : wanted.columns) then.columns[name] = given.value;
    if (wanted.notices_localpart) {
        then.columns["server_notices_mxid"] =
            mxid(wanted.notices_localpart->value, then, wanted.notices_localpart->place);
    }
    if (wanted.reserved) then.reserved = *wanted.reserved;
    merge_appservices(then, wanted);
    apply_limit(then, wanted);
    warn_of_no_counting(then, wanted);
    return then;
}

void check_regexes(Connection& connection, const Wanted& wanted) {
    if (!wanted.registrations) return;
    for (const auto& [id, registration] : *wanted.registrations) {
        for (const auto& regex : registration.value.exclusive_user_regexes) {
            try {
                connection.run("SELECT '' ~ $1", {regex.value});
            } catch (const Problem& problem) {
                const std::string message = problem.what();
                if (message.find("2201B") == std::string::npos) throw;
                throw problem_at(
                    regex.place,
                    fmt::format("\"{}\" is no regular expression of PostgreSQL: {}", regex.value, message),
                    "write it without what only Python knows, such as (?P<name>...)");
            }
        }
    }
}

void write_settings(Connection& connection, const Settings& now, const Settings& then) {
    std::string assignments;
    std::vector<Cell> values;
    for (const auto& [name, value] : then.columns) {
        if (now.column(name) == value) continue;
        values.push_back(value);
        assignments += fmt::format("{}{} = ${}", assignments.empty() ? "" : ", ", name, values.size());
    }
    if (!values.empty()) connection.run("UPDATE mau.settings SET " + assignments, values);

    if (now.reserved != then.reserved) {
        auto pairs = nlohmann::json::array();
        for (const Threepid& t : then.reserved) pairs.push_back({t.medium, t.address});
        connection.run("DELETE FROM mau.reserved_threepids");
        connection.run(kInsertReserved, {pairs.dump()});
    }

    for (const auto& [id, appservice] : now.appservices) {
        if (then.appservices.count(id) == 0)
            connection.run("DELETE FROM mau.appservices WHERE id = $1", {id});
    }
    for (const auto& [id, appservice] : then.appservices) {
        const auto before = now.appservices.find(id);
        if (before != now.appservices.end() && before->second == appservice) continue;
        connection.run(kWriteAppservice,
                       {id, appservice.trial_days ? Cell(std::to_string(*appservice.trial_days)) : Cell(),
                        appservice.sender, nlohmann::json(appservice.exclusive_user_regexes).dump()});
    }
}

}  // namespace mau::client
