// The configuration files of homeservers.
#pragma once

#include <string>
#include <vector>

#include "client/settings.hpp"

namespace mau::client {

/// How the files that name appservices are found.
struct AppserviceOptions {
    std::string folder;  ///< Where they are on this machine; empty = where the configuration says.
    bool skip = false;   ///< Leave mau.appservices as it is.
};

/// The files in the order in which Synapse reads them: of a folder, those whose names end in `ending`,
/// sorted. A file of a folder with another ending is named in `warnings`. Raises Problem where a file or
/// folder does not exist.
std::vector<std::string> expand_folders(const std::vector<std::string>& paths, const std::string& ending,
                                        std::vector<std::string>& warnings);

/// Reads configurations of Synapse; later files replace keys of earlier ones.
void read_synapse(const std::vector<std::string>& files, const AppserviceOptions& options, Wanted& wanted);

/// Reads a configuration of Dendrite.
void read_dendrite(const std::vector<std::string>& files, const AppserviceOptions& options, Wanted& wanted);

/// Reads configurations of Prosody and the files that they include.
void read_prosody(const std::vector<std::string>& files, Wanted& wanted);

/// Reads the registrations of appservices that a list of file names has.
void read_registrations(const Node& list, const std::string& name, const AppserviceOptions& options,
                        Wanted& wanted);

/// The server's name. Raises Problem where it is none.
std::string server_name_of(const Node& node, const std::string& name);

/// Adds a warning if the key of an entry occurs twice.
void warn_of_repetition(const Node::Entry& entry, Wanted& wanted);

}  // namespace mau::client
