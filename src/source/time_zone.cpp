#include "source/time_zone.hpp"

namespace mau::source {

namespace {

pg::Statement setting_query("SELECT s.source_time_zone FROM mau.settings s");

// The settings of the roles that write the table, one row for each that differs; NULL = the server's. A
// session prefers the setting of its role in its database, then that of the role, of the database, of all.
pg::Statement roles_query(
    "WITH writers AS (SELECT r.oid FROM pg_roles r"
    "   WHERE r.rolcanlogin AND NOT r.rolsuper AND has_table_privilege(r.oid, $1, 'INSERT')),"
    " roles AS (SELECT w.oid FROM writers w"
    "   UNION ALL SELECT c.relowner FROM pg_class c WHERE c.oid = $1 AND NOT EXISTS (SELECT FROM writers))"
    " SELECT DISTINCT (SELECT substr(v.value, 10) FROM pg_db_role_setting s, unnest(s.setconfig) v(value)"
    "   WHERE s.setrole IN (r.oid, 0)"
    "     AND s.setdatabase IN ((SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), 0)"
    "     AND lower(v.value) LIKE 'timezone=%' ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1)"
    " FROM roles r WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = $1 AND c.relkind IN ('r', 'p'))",
    {OIDOID});

// Without a setting of the session's own role, database or client, its TimeZone is the server's.
pg::Statement servers_query(
    "SELECT p.setting FROM pg_settings p WHERE p.name = 'TimeZone'"
    " AND p.source IN ('default', 'environment variable', 'configuration file', 'command line')");

/// The server's time zone; nothing if this session began with another setting.
std::optional<std::string> servers_time_zone() {
    // Undoes a SET of this session for the query.
    const int level = pg::guard([] {
        int const opened = NewGUCNestLevel();
        set_config_option("TimeZone", nullptr, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
        return opened;
    });
    const pg::Rows rows = servers_query.read();
    std::optional<std::string> zone;
    if (!rows.empty()) zone = rows.at(0, 0).optional_text();
    pg::guard([&] { AtEOXact_GUC(false, level); });
    return zone;
}

}  // namespace

std::optional<std::string> time_zone_of(Oid table) {
    const pg::Rows setting = setting_query.read_latest();
    if (!setting.empty() && !setting.at(0, 0).is_null()) return setting.at(0, 0).string();
    const pg::Rows zones = roles_query.read_latest(static_cast<std::int64_t>(table));
    if (zones.count != 1) return std::nullopt;
    return zones.at(0, 0).is_null() ? servers_time_zone() : zones.at(0, 0).optional_text();
}

}  // namespace mau::source
