// Dendrite's userapi tables; all times are in milliseconds. userapi_devices has no index on last_seen_ts.
// userapi_daily_visits knows localparts only, and Dendrite counts localparts: two users of one localpart on
// two virtual hosts are one in its figures.
#include "source/contract.hpp"

namespace mau::source {

namespace {

/// The keys of Dendrite's phone-home that concern users, as its stats_table.go counts them, with one
/// deviation: r30v2_users_all counts a user once. Dendrite adds up the platforms, so that a user of two
/// counts twice.
constexpr const char* kUsage =
    "SELECT jsonb_build_object("
    "'daily_active_users', (SELECT count(DISTINCT d.localpart) FROM {schema}.userapi_devices d"
    "                        WHERE d.last_seen_ts > $1 - 86400000),"
    "'monthly_active_users', (SELECT count(DISTINCT d.localpart) FROM {schema}.userapi_devices d"
    "                          WHERE d.last_seen_ts > $1 - 2592000000),"
    "'total_users', count(*) FILTER (WHERE a.account_type IN (1, 2, 3, 4)),"
    "'total_nonbridged_users', count(*) FILTER (WHERE a.account_type IN (1, 2, 3)),"
    // For 30 days, despite their names.
    "'daily_user_type_native', count(*) FILTER (WHERE a.account_type IN (1, 3, 4) AND a.appservice_id IS NULL"
    "                                             AND a.created_ts > $1 - 2592000000),"
    "'daily_user_type_guest', count(*) FILTER (WHERE a.account_type = 2 AND a.appservice_id IS NULL"
    "                                            AND a.created_ts > $1 - 2592000000),"
    "'daily_user_type_bridged', count(*) FILTER (WHERE a.account_type IN (1, 3, 4) AND a.appservice_id IS "
    "NOT NULL"
    "                                              AND a.created_ts > $1 - 2592000000))"
    " || (SELECT jsonb_build_object('r30_users_all', coalesce(sum(p.users), 0),"
    "      'r30_users_android', coalesce(sum(p.users) FILTER (WHERE p.platform = 'android'), 0),"
    "      'r30_users_ios', coalesce(sum(p.users) FILTER (WHERE p.platform = 'ios'), 0),"
    "      'r30_users_electron', coalesce(sum(p.users) FILTER (WHERE p.platform = 'electron'), 0),"
    "      'r30_users_web', coalesce(sum(p.users) FILTER (WHERE p.platform = 'web'), 0))"
    "     FROM (SELECT u.platform, count(DISTINCT (u.localpart, u.created_ts)) AS users"
    "             FROM (SELECT a.localpart, a.created_ts, CASE WHEN d.user_agent LIKE '%Android%' THEN "
    "'android'"
    "                     WHEN d.user_agent LIKE '%iOS%' THEN 'ios' WHEN d.user_agent LIKE '%Electron%' THEN "
    "'electron'"
    "                     WHEN d.user_agent LIKE '%Mozilla%' OR d.user_agent LIKE '%Gecko%' THEN 'web' END "
    "AS platform"
    "                     FROM {schema}.userapi_accounts a JOIN {schema}.userapi_devices d ON d.localpart = "
    "a.localpart"
    "                    WHERE a.account_type <> 4 AND a.created_ts < $1 - 2592000000"
    "                      AND d.last_seen_ts > $1 - 2592000000 AND d.last_seen_ts - a.created_ts > "
    "2592000000) u"
    "            WHERE u.platform IS NOT NULL GROUP BY u.platform) p){visits}"
    " FROM {schema}.userapi_accounts a";

constexpr const char* kVisits =
    " || (SELECT jsonb_build_object('r30v2_users_all', count(DISTINCT r.localpart),"
    "      'r30v2_users_android', count(*) FILTER (WHERE r.platform = 'android'),"
    "      'r30v2_users_ios', count(*) FILTER (WHERE r.platform = 'ios'),"
    "      'r30v2_users_electron', count(*) FILTER (WHERE r.platform = 'electron'),"
    "      'r30v2_users_web', count(*) FILTER (WHERE r.platform = 'web'))"
    "     FROM (SELECT v.localpart, v.platform FROM (SELECT w.localpart, w.\"timestamp\" AS at,"
    "             CASE WHEN lower(w.user_agent) LIKE '%riot%' OR lower(w.user_agent) LIKE '%element%' THEN"
    "               CASE WHEN lower(w.user_agent) LIKE '%electron%' THEN 'electron'"
    "                    WHEN lower(w.user_agent) LIKE '%android%' THEN 'android'"
    "                    WHEN lower(w.user_agent) LIKE '%ios%' THEN 'ios' END"
    "             WHEN lower(w.user_agent) LIKE '%mozilla%' OR lower(w.user_agent) LIKE '%gecko%' THEN 'web' "
    "END"
    "             AS platform FROM {schema}.userapi_daily_visits w"
    "            WHERE w.\"timestamp\" > $1 - 5184000000 AND w.\"timestamp\" < $1 + 86400000) v"
    "          WHERE v.platform IS NOT NULL GROUP BY v.localpart, v.platform"
    "          HAVING max(v.at) - min(v.at) > 2592000000) r)";

}  // namespace

Contract dendrite(const Homeserver& homeserver) {
    auto bound = [&](const char* text) {
        return substitute(substitute(text, "user_id", "'@' || a.localpart || ':' || a.server_name"), "schema",
                          homeserver.schema);
    };
    Contract contract;
    contract.needs = {
        {"userapi_accounts",
         {"localpart", "server_name", "created_ts", "appservice_id", "is_deactivated", "account_type"}},
        {"userapi_devices", {"localpart", "server_name", "last_seen_ts", "user_agent"}},
    };
    contract.users_table = "userapi_accounts";
    contract.users = bound(
        "SELECT {user_id}, a.created_ts::bigint, NULL::text,"
        " coalesce(nullif(a.appservice_id, ''), CASE WHEN a.account_type = 4 THEN 'appservice' END),"
        " coalesce(a.account_type = 2, false), coalesce(a.is_deactivated, false), false"
        " FROM {schema}.userapi_accounts a WHERE {where} ORDER BY a.created_ts NULLS FIRST");
    if (homeserver.has("userapi_threepids", "server_name")) {
        contract.needs.push_back({"userapi_threepids", {"threepid", "medium", "localpart", "server_name"}});
        contract.threepids_table = "userapi_threepids";
        contract.threepids = bound(
            "SELECT {user_id}, a.medium::text, a.threepid::text FROM {schema}.userapi_threepids a WHERE "
            "{where}");
        contract.holders = bound(
            "SELECT {user_id}, a.medium::text, a.threepid::text"
            " FROM ROWS FROM (unnest($1), unnest($2)) r(medium, address)"
            " JOIN {schema}.userapi_threepids a ON a.medium = r.medium AND a.threepid = r.address"
            " UNION ALL SELECT {user_id}, a.medium::text, a.threepid::text FROM {schema}.userapi_threepids a"
            " WHERE (a.localpart, a.server_name) IN"
            " (SELECT substr(split_part(h.id, ':', 1), 2), substr(h.id, strpos(h.id, ':') + 1) FROM "
            "unnest($3) h(id))");
    }
    contract.rows_go = "in mau only: their devices were logged out, and are gone";
    contract.activity_table = "userapi_devices";
    contract.activity = bound(
        "SELECT {user_id}, a.last_seen_ts::bigint, a.user_agent::text FROM {schema}.userapi_devices a"
        " WHERE {where} AND a.last_seen_ts >= 0");
    complete(contract);
    contract.malformed = bound(
        "SELECT 'userapi_devices', CASE WHEN a.last_seen_ts >= 0 THEN 'last_seen_ts is in the future'"
        " ELSE 'last_seen_ts is missing or negative' END, {user_id} FROM {schema}.userapi_devices a WHERE "
        "{where}"
        " AND (a.last_seen_ts >= 0 AND a.last_seen_ts <= $1 + 86400000) IS NOT TRUE LIMIT 1000");
    const bool visits = homeserver.has("userapi_daily_visits", "timestamp");
    if (visits) contract.needs.push_back({"userapi_daily_visits", {"localpart", "timestamp", "user_agent"}});
    contract.usage = bound(substitute(kUsage, "visits", visits ? kVisits : "").c_str());
    return contract;
}

}  // namespace mau::source
