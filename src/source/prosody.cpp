// Prosody's one table (0.12 and 13): prosody(host, "user", store, key, type, value), all text, indexed by
// (host, "user", store, key) only. mod_lastlog2 stores logins and logouts as JSON; 13 keeps account_activity,
// too. The table holds everything else as well, so rows are picked by store, key and type before their value
// is read, and no value is cast to json: an error in one row must not keep the others from being read.
// prosody_json parses the values.
#include "source/contract.hpp"
#include "source/prosody_json.hpp"

namespace mau::source {

namespace {

/// Seconds in a value of type number.
std::string number_seconds(const std::string& value) {
    return "substring(" + value + " FROM $re$^[0-9]{1,12}(?:\\.[0-9]{1,9})?$$re$)::numeric";
}

}  // namespace

Contract prosody(const Homeserver& homeserver) {
    const std::string table = homeserver.schema + ".prosody";
    const auto bound = [&](std::string text) {
        text = substitute(
            text, "created_seconds",
            "CASE WHEN c.key = 'created' AND c.type = 'number' THEN " + number_seconds("c.value") + " END");
        return substitute(substitute(text, "table_name", literal(table)), "table", table);
    };
    Contract contract;
    contract.needs = {{"prosody", {"host", "user", "store", "key", "type", "value"}}};
    contract.users_table = "prosody";
    // All rows of each account that has a row in the pages that are read.
    contract.users = bound(
        "SELECT c.\"user\" || '@' || c.host,"
        " floor(min({created_seconds}) * 1000)::bigint, NULL::text, NULL::text, false,"
        " bool_or(c.key = 'disabled' AND c.type = 'boolean' AND c.value = 'true'), false"
        " FROM {table} c WHERE c.store = 'accounts' AND c.\"user\" <> '' AND (c.host, c.\"user\") IN"
        "  (SELECT a.host, a.\"user\" FROM {table} a WHERE {where} AND a.store = 'accounts')"
        " GROUP BY c.host, c.\"user\" ORDER BY 2 NULLS FIRST");
    contract.rows_go = "in mau only: their accounts were removed";
    contract.activity_table = "prosody";
    // A number is parsed as the object that has it.
    contract.unparsed = bound(
        "SELECT a.host::text, a.\"user\"::text, a.key::text,"
        "  CASE WHEN a.store = 'lastlog2' AND a.type = 'json' AND octet_length(a.value) <= 4096 THEN "
        "a.value::text"
        "   WHEN a.store = 'account_activity' AND a.type = 'number' THEN '{\"timestamp\":' || " +
        number_seconds("a.value") +
        " || '}' END"
        " FROM {table} a WHERE {where} AND a.\"user\" <> ''"
        "  AND (a.store = 'lastlog2' AND a.key IN ('login', 'logout')"
        "       OR a.store = 'account_activity' AND a.key = 'timestamp')");
    contract.parse = prosody_time;
    contract.activity =
        "SELECT a.\"user\" || '@' || a.host, a.seen_at, NULL::text FROM sightings a WHERE a.seen_at IS NOT "
        "NULL";
    complete(contract);
    contract.malformed =
        "SELECT 'prosody',"
        " CASE WHEN a.seen_at IS NULL THEN 'no usable time in the value' ELSE 'time is in the future' END,"
        " a.\"user\" || '@' || a.host || ' ' || a.key FROM sightings a"
        " WHERE a.seen_at IS NULL OR a.seen_at > $1 + 86400000 LIMIT 1000";
    // mod_measure_active_users: per host, whole seconds, strictly less; the future counts. 13, recognised by
    // its unique index or by contents that only it stores, leaves out users without an account or with a
    // disabled one. Prosody also counts users who are online, which the database does not know.
    contract.usage = bound(
        "WITH seen AS (SELECT a.host, a.\"user\", max(a.seen_at) AS last FROM sightings a"
        "   WHERE a.key IN ('login', 'logout') GROUP BY a.host, a.\"user\"),"
        " accounts AS (SELECT a.host, a.\"user\","
        "     bool_or(a.key = 'disabled' AND a.type = 'boolean' AND a.value = 'true') AS disabled"
        "   FROM {table} a WHERE a.store = 'accounts' AND a.\"user\" <> '' GROUP BY a.host, a.\"user\"),"
        " version AS (SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = {table_name}::regclass AND "
        "i.indisunique"
        "     AND (SELECT array_agg(t.attname::text ORDER BY t.attname::text) FROM pg_attribute t"
        "          WHERE t.attrelid = i.indrelid AND t.attnum = ANY (i.indkey)) = '{host,key,store,user}')"
        "   OR EXISTS (SELECT 1 FROM {table} a WHERE a.store = 'account_activity'"
        "     OR a.store = 'accounts' AND a.key IN ('created', 'disabled')) AS is_13),"
        " figures AS (SELECT s.host, floor($1 / 1000.0) - s.last / 1000.0 AS age FROM seen s CROSS JOIN "
        "version v"
        "   LEFT JOIN accounts c ON c.host = s.host AND c.\"user\" = s.\"user\" WHERE NOT v.is_13 OR NOT "
        "c.disabled),"
        " counts AS (SELECT f.host, count(*) FILTER (WHERE f.age < 86400) AS day,"
        "   count(*) FILTER (WHERE f.age < 604800) AS week, count(*) FILTER (WHERE f.age < 2592000) AS month"
        "   FROM figures f GROUP BY f.host),"
        " hosts AS (SELECT s.host FROM seen s UNION SELECT c.host FROM accounts c)"
        " SELECT jsonb_build_object('hosts', coalesce(jsonb_object_agg(h.host, jsonb_build_object("
        "   '1d', coalesce(c.day, 0), '7d', coalesce(c.week, 0), '30d', coalesce(c.month, 0))), '{}'::jsonb))"
        " FROM hosts h LEFT JOIN counts c ON c.host = h.host");
    return contract;
}

}  // namespace mau::source
