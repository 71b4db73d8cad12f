// The settings of mau that a homeserver's configuration names: what a database has, what files say, and the
// way from one to the other.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "client/database.hpp"
#include "client/table.hpp"
#include "client/yaml_file.hpp"

namespace mau::client {

struct Threepid {
    std::string medium;
    std::string address;

    bool operator==(const Threepid& other) const {
        return medium == other.medium && address == other.address;
    }
};

/// A row of mau.appservices; its id is the key of Settings::appservices.
struct Appservice {
    std::optional<int> trial_days;
    Cell sender;
    std::vector<std::string> exclusive_user_regexes;

    bool operator==(const Appservice& other) const {
        return std::tie(trial_days, sender, exclusive_user_regexes) ==
               std::tie(other.trial_days, other.sender, other.exclusive_user_regexes);
    }
};

/// The settings of a database.
struct Settings {
    std::map<std::string, Cell> columns;  ///< Of mau.settings, as text.
    std::vector<Threepid> reserved;       ///< In their order.
    std::map<std::string, Appservice> appservices;

    bool operator==(const Settings& other) const {
        return std::tie(columns, reserved, appservices) ==
               std::tie(other.columns, other.reserved, other.appservices);
    }
    const Cell& column(const std::string& name) const { return columns.at(name); }
};

/// The value of a setting in the files, and its place.
template <typename Value>
struct Given {
    Value value;
    Place place;
};

/// The registration of an appservice.
struct Registration {
    std::string sender_localpart;
    std::vector<Given<std::string>> exclusive_user_regexes;
};

/// The settings in the files. A setting that they do not name is not there, and keeps its value.
struct Wanted {
    std::map<std::string, Given<Cell>> columns;           ///< Of mau.settings.
    std::optional<Given<std::string>> notices_localpart;  ///< Of the user that sends server notices.
    std::optional<std::vector<Threepid>> reserved;
    std::optional<std::map<std::string, int>> trial_days;  ///< By the id of an appservice.
    std::optional<std::map<std::string, Given<Registration>>> registrations;
    std::vector<std::string> warnings;
    std::vector<Problem> problems;

    bool is_empty() const {
        return columns.empty() && !notices_localpart && !reserved && !trial_days && !registrations;
    }
    void warn(const Place& place, std::string_view what);
    /// Runs `read`, and keeps the Problem that it raises.
    template <typename Read>
    void collect(const Read& read) {
        try {
            read();
        } catch (const Problem& problem) {
            problems.push_back(problem);
        }
    }
};

/// Reads the settings of a database. Raises Problem.
Settings load_settings(Connection& connection);

/// The settings as they are after the import. What is unusual about them is added to wanted.warnings. Raises
/// Problem.
Settings merge(const Settings& now, Wanted& wanted);

/// Raises Problem where a regular expression of the files is none for PostgreSQL.
void check_regexes(Connection& connection, const Wanted& wanted);

/// A row for each difference: setting, now, file.
Table difference(const Settings& now, const Settings& then);

/// Writes what differs, in the transaction of the connection. Raises Problem.
void write_settings(Connection& connection, const Settings& now, const Settings& then);

}  // namespace mau::client
