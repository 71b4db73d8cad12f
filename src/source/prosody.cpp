// Prosody's one table (0.12 and 13): prosody(host, "user", store, key, type, value), all text, indexed by
// (host, "user", store, key) only. Whose login or logout is when is JSON of mod_lastlog2; 13 keeps
// account_activity too. The table holds everything else as well, so rows are picked by store, key and type
// before their value is looked at, and a value is never cast to json: an error in one row must not keep the
// others from being read.
#include "source/contract.hpp"

namespace mau::source {

namespace {

/// Seconds in a value such as {"timestamp":1795226002}, as numeric; NULL for what is no JSON object with a
/// number of that name. What Prosody writes is told by its shape, which costs little. Anything else is JSON
/// if it becomes a flat object once strings are emptied and then, four levels deep, arrays and objects inside
/// are taken for null; as in Prosody, the last of several keys of one name is taken.
std::string json_seconds(const std::string& value) {
    const std::string string_body = R"((?:[^"\\\x01-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*)";
    const std::string key = R"("(?:timestamp)?")";
    const std::string scalar =
        "(?:" + key + R"(|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null))";
    const std::string member = key + R"(\s*:\s*)" + scalar;
    const std::string object = R"(\{\s*(?:)" + member + R"((?:\s*,\s*)" + member + R"()*)?\s*\})";
    const std::string array = R"(\[\s*(?:)" + scalar + R"((?:\s*,\s*)" + scalar + R"()*)?\s*\])";
    auto literal = [](const std::string& text) { return "$re$" + text + "$re$"; };

    std::string flat = "regexp_replace({value}, " + literal("\"(?:(timestamp)|" + string_body + ")\"") +
                       ", " + literal(R"("\1")") + ", 'g')";
    for (int level = 0; level < 4; ++level)
        flat = "regexp_replace(" + flat + ", " + literal(R"(([:,\[]\s*)(?:)" + object + "|" + array + ")") +
               ", " + literal(R"(\1null)") + ", 'g')";
    return substitute(
        "CASE WHEN {value} LIKE '{\"timestamp\":__________}' AND substr({value}, 14, 1) <> '0'"
        "      AND translate(substr({value}, 14, 10), '0123456789', '') = '' THEN substr({value}, 14, "
        "10)::numeric"
        " WHEN {value} ~ " +
            literal(
                R"(^\{(?:"ip":"[0-9A-Fa-f:.]*",)?"timestamp":(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,9})?\}$)") +
            " THEN rtrim(split_part({value}, '\"timestamp\":', 2), '}')::numeric"
            " ELSE (SELECT substring(substring(f.flat FROM " +
            literal(R"(.*"timestamp"\s*:\s*([^,}\s]+))") + ") FROM " +
            literal(R"(^[0-9]{1,12}(?:\.[0-9]{1,30})?(?:[eE][+]?[0-9]{1,2})?$)") + ")::numeric" +
            " FROM (SELECT " + flat + " AS flat WHERE length({value}) <= 4096 OFFSET 0) f" +
            " WHERE f.flat ~ " + literal(R"(^\s*)" + object + R"(\s*$)") + ") END",
        "value", value);
}

/// Seconds in a value of type number.
std::string number_seconds(const std::string& value) {
    return "substring(" + value + " FROM $re$^[0-9]{1,12}(?:\\.[0-9]{1,9})?$$re$)::numeric";
}

/// The rows that say when somebody was seen, as host, user, key and seen_at in milliseconds: NULL for what
/// makes no sense, which a time after the year 3000 does not either.
constexpr const char* kSightings =
    "(SELECT s.host, s.\"user\", s.key,"
    "   CASE WHEN s.seconds < 32503680000 THEN floor(s.seconds * 1000)::bigint END AS seen_at"
    "  FROM (SELECT a.host, a.\"user\", a.key, CASE WHEN a.store = 'lastlog2' AND a.type = 'json' THEN "
    "{json_seconds}"
    "          WHEN a.store = 'account_activity' AND a.type = 'number' THEN {number_seconds} END AS seconds"
    "          FROM {table} a WHERE {where} AND a.\"user\" <> ''"
    "           AND (a.store = 'lastlog2' AND a.key IN ('login', 'logout')"
    "                OR a.store = 'account_activity' AND a.key = 'timestamp') OFFSET 0) s OFFSET 0) a";

}  // namespace

Contract prosody(const Place& place) {
    auto bound = [&](std::string text) {
        text = substitute(text, "sightings", kSightings);
        text = substitute(text, "json_seconds", json_seconds("a.value"));
        text = substitute(
            text, "created_seconds",
            "CASE WHEN c.key = 'created' AND c.type = 'number' THEN " + number_seconds("c.value") + " END");
        text = substitute(text, "number_seconds", number_seconds("a.value"));
        const std::string table = place.schema + ".prosody";
        return substitute(substitute(text, "table_name", literal(table)), "table", table);
    };
    Contract contract;
    contract.needs = {{"prosody", {"host", "user", "store", "key", "type", "value"}}};
    contract.users_table = "prosody";
    // All of an account's rows, wherever they are, for each account with a row in the pages that are read.
    contract.users = bound(
        "SELECT c.\"user\" || '@' || c.host,"
        " floor(min({created_seconds}) * 1000)::bigint, NULL::text, NULL::text, false,"
        " bool_or(c.key = 'disabled' AND c.type = 'boolean' AND c.value = 'true')"
        " FROM {table} c WHERE c.store = 'accounts' AND c.\"user\" <> '' AND (c.host, c.\"user\") IN"
        "  (SELECT a.host, a.\"user\" FROM {table} a WHERE {where} AND a.store = 'accounts')"
        " GROUP BY c.host, c.\"user\" ORDER BY 2 NULLS FIRST");
    contract.rows_go = "in mau only: their accounts were removed";
    contract.activity_table = "prosody";
    contract.activity = bound(
        "SELECT a.\"user\" || '@' || a.host, a.seen_at, NULL::text FROM {sightings} WHERE a.seen_at IS NOT "
        "NULL");
    complete(contract);
    contract.malformed = bound(
        "SELECT 'prosody',"
        " CASE WHEN a.seen_at IS NULL THEN 'no usable time in the value' ELSE 'time is in the future' END,"
        " a.\"user\" || '@' || a.host || ' ' || a.key FROM {sightings}"
        " WHERE a.seen_at IS NULL OR a.seen_at > $1 + 86400000 LIMIT 1000");
    // mod_measure_active_users: per host, whole seconds, strictly less; the future counts. 13, which is known
    // by its unique index or by what only it stores, leaves out who has no account or a disabled one. Who is
    // online counts for Prosody in any case; the database does not know.
    contract.usage = bound(
        "WITH seen AS (SELECT a.host, a.\"user\", max({json_seconds}) AS last FROM {table} a"
        "   WHERE a.store = 'lastlog2' AND a.key IN ('login', 'logout') AND a.type = 'json' AND a.\"user\" "
        "<> ''"
        "   GROUP BY a.host, a.\"user\"),"
        " accounts AS (SELECT a.host, a.\"user\","
        "     bool_or(a.key = 'disabled' AND a.type = 'boolean' AND a.value = 'true') AS disabled"
        "   FROM {table} a WHERE a.store = 'accounts' AND a.\"user\" <> '' GROUP BY a.host, a.\"user\"),"
        " version AS (SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = {table_name}::regclass AND "
        "i.indisunique"
        "     AND (SELECT array_agg(t.attname::text ORDER BY t.attname::text) FROM pg_attribute t"
        "          WHERE t.attrelid = i.indrelid AND t.attnum = ANY (i.indkey)) = '{host,key,store,user}')"
        "   OR EXISTS (SELECT 1 FROM {table} a WHERE a.store = 'account_activity'"
        "     OR a.store = 'accounts' AND a.key IN ('created', 'disabled')) AS is_13),"
        " figures AS (SELECT s.host, floor($1 / 1000.0) - s.last AS age FROM seen s CROSS JOIN version v"
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
