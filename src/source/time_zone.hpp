// The time zone of a homeserver's times that are stored without one.
#pragma once

#include <optional>
#include <string>

#include "pg/spi.hpp"

namespace mau::source {

/// Returns the time zone in which the homeserver writes such times into a table:
/// mau.settings.source_time_zone; else the setting TimeZone of the roles that may log in and insert there (of
/// the owner, where there is no such role but superusers), in this database; else the server's. Returns
/// nothing if these roles differ, if the table is not in this database, or if this session does not show the
/// server's setting.
std::optional<std::string> time_zone_of(Oid table);

}  // namespace mau::source
