// Synapse's tables (any schema version that has these columns): users, user_ips, user_threepids.
// creation_ts is in seconds, last_seen in milliseconds. Flags were smallint and may become boolean.
#include "source/contract.hpp"

namespace mau::source {

namespace {

// The figures that Synapse "phones home". r30 (the older one, which 1.160 no longer reports): accounts older
// than 30 days, seen within 30 days, with more than 30 days between; r30v2: users whose visits of 60 days lie
// more than 30 days apart, by client type the visits of that type. Clients of an unknown type are in `all`
// only.
constexpr const char* kUsage =
    "SELECT jsonb_build_object("
    "'daily_active_users', (SELECT count(DISTINCT i.user_id) FROM {schema}.user_ips i"
    "                        WHERE i.last_seen > $1 - 86400000),"
    "'monthly_active_users', (SELECT count(DISTINCT i.user_id) FROM {schema}.user_ips i"
    "                          WHERE i.last_seen > $1 - 2592000000),"
    "'total_users', count(*), 'total_nonbridged_users', count(*) FILTER (WHERE u.appservice_id IS NULL),"
    "'daily_user_type_native', count(*) FILTER (WHERE NOT u.guest AND u.appservice_id IS NULL AND u.young),"
    "'daily_user_type_guest', count(*) FILTER (WHERE u.guest AND u.appservice_id IS NULL AND u.young),"
    "'daily_user_type_bridged', count(*) FILTER (WHERE NOT u.guest AND u.appservice_id IS NOT NULL AND "
    "u.young))"
    " || (SELECT jsonb_build_object('r30_users_all', count(DISTINCT r.name),"
    "       'r30_users_android', count(DISTINCT r.name) FILTER (WHERE r.client = 'android'),"
    "       'r30_users_ios', count(DISTINCT r.name) FILTER (WHERE r.client = 'ios'),"
    "       'r30_users_electron', count(DISTINCT r.name) FILTER (WHERE r.client = 'electron'),"
    "       'r30_users_web', count(DISTINCT r.name) FILTER (WHERE r.client = 'web'))"
    "     FROM (SELECT a.name, CASE WHEN i.user_agent LIKE '%Android%' THEN 'android'"
    "                               WHEN i.user_agent LIKE '%iOS%' THEN 'ios'"
    "                               WHEN i.user_agent LIKE '%Electron%' THEN 'electron'"
    "                               WHEN i.user_agent LIKE '%Mozilla%' OR i.user_agent LIKE '%Gecko%' THEN "
    "'web' END"
    "             FROM {schema}.users a JOIN {schema}.user_ips i ON i.user_id = a.name"
    "            WHERE a.appservice_id IS NULL AND a.creation_ts < $1 / 1000 - 2592000"
    "              AND i.last_seen / 1000 > $1 / 1000 - 2592000 AND i.last_seen / 1000 - a.creation_ts > "
    "2592000"
    "          ) r(name, client)) || {r30v2}"
    " FROM (SELECT nullif(a.appservice_id::text, '') AS appservice_id,"
    "              coalesce(a.is_guest::text IN ('1', 't', 'true'), false) AS guest,"
    "              coalesce(a.creation_ts::bigint > $1 / 1000 - 86400, false) AS young"
    "         FROM {schema}.users a) u";

constexpr const char* kR30v2 =
    "(WITH visits AS (SELECT v.user_id, v.\"timestamp\" AS day,"
    "    CASE WHEN lower(v.user_agent) LIKE '%riot%' OR lower(v.user_agent) LIKE '%element%' THEN"
    "           CASE WHEN lower(v.user_agent) LIKE '%electron%' THEN 'electron'"
    "                WHEN lower(v.user_agent) LIKE '%android%' THEN 'android'"
    "                WHEN lower(v.user_agent) LIKE '%ios%' THEN 'ios' END"
    "         WHEN lower(v.user_agent) LIKE '%mozilla%' OR lower(v.user_agent) LIKE '%gecko%' THEN 'web' END "
    "AS client"
    "   FROM {schema}.user_daily_visits v"
    "  WHERE v.\"timestamp\" > ($1 / 1000 - 5184000) * 1000 AND v.\"timestamp\" < ($1 / 1000 + 86400) * "
    "1000),"
    " by_client AS (SELECT client, user_id FROM visits GROUP BY 1, 2 HAVING max(day) - min(day) > 2592000000)"
    " SELECT jsonb_build_object("
    "  'r30v2_users_all', (SELECT count(*) FROM (SELECT user_id FROM visits GROUP BY 1"
    "                       HAVING max(day) - min(day) > 2592000000) everybody),"
    "  'r30v2_users_android', count(*) FILTER (WHERE client = 'android'),"
    "  'r30v2_users_ios', count(*) FILTER (WHERE client = 'ios'),"
    "  'r30v2_users_electron', count(*) FILTER (WHERE client = 'electron'),"
    "  'r30v2_users_web', count(*) FILTER (WHERE client = 'web')) FROM by_client)";

/// A flag that was smallint in older versions, or is boolean.
std::string flag(const std::string& column) {
    return "coalesce(" + column + "::text IN ('1', 't', 'true'), false)";
}

/// The query for Synapse's own answers to an account, about the columns and tables that this version has.
std::string answers_query(const Homeserver& homeserver) {
    struct State {
        const char* column;
        const char* rule;
        const char* answer;
    };
    constexpr State kStates[] = {
        {"deactivated", "deactivated in Synapse", "Synapse refuses a login: 403 M_USER_DEACTIVATED"},
        {"locked", "locked in Synapse", "Synapse refuses all requests but to log out: 401 M_USER_LOCKED"},
        {"suspended", "suspended in Synapse",
         "Synapse refuses to send, join or invite: 403 M_USER_SUSPENDED"},
        {"shadow_banned", "shadow-banned in Synapse",
         "Synapse answers as usual, and does not send the user's messages and invitations"},
    };
    std::string rules;
    const auto add = [&](const std::string& rule, const std::string& condition, const std::string& answer) {
        rules +=
            (rules.empty() ? "(" : ", (") + literal(rule) + ", " + condition + ", " + literal(answer) + ")";
    };
    for (const State& state : kStates)
        if (homeserver.has("users", state.column))
            add(state.rule, flag(std::string("u.") + state.column), state.answer);
    if (homeserver.has("users", "approved"))
        add("not approved in Synapse", "NOT coalesce(u.approved::text IN ('1', 't', 'true'), true)",
            "Synapse refuses a login where it requires approval: "
            "403 ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL");
    if (homeserver.has("erased_users", "user_id"))
        add("erased in Synapse",
            "EXISTS (SELECT FROM " + homeserver.schema + ".erased_users e WHERE e.user_id = u.name)",
            "Synapse hides the user's messages from users who join later");
    return "SELECT r.rule, r.holds, CASE WHEN r.holds THEN r.answer ELSE 'no' END FROM " + homeserver.schema +
           ".users u CROSS JOIN LATERAL (VALUES " + rules +
           ") r(rule, holds, answer) WHERE u.name = ANY ($1)";
}

}  // namespace

Contract synapse(const Homeserver& homeserver) {
    const std::string& schema = homeserver.schema;
    Contract contract;
    contract.needs = {
        {"users", {"name", "creation_ts", "is_guest", "appservice_id", "user_type", "deactivated"}},
        {"user_ips", {"user_id", "user_agent", "last_seen"}},
        {"user_threepids", {"user_id", "medium", "address"}},
    };
    const bool locks = homeserver.has("users", "locked");
    if (locks) contract.needs.front().columns.emplace_back("locked");
    contract.users_table = "users";
    contract.one_server_name = true;
    contract.users = substitute(
        "SELECT u.name::text,"
        // A time out of range stays out of range in milliseconds, so that it is reported.
        " CASE WHEN u.creation_ts::bigint BETWEEN -9000000000000 AND 9000000000000"
        "      THEN u.creation_ts::bigint * 1000 ELSE u.creation_ts::bigint END,"
        " u.user_type::text, u.appservice_id::text,"
        " {is_guest}, {is_deactivated}, {is_locked} FROM {schema}.users u WHERE {where}"
        " ORDER BY u.creation_ts NULLS FIRST",
        "schema", schema);
    contract.users = substitute(contract.users, "is_guest", flag("u.is_guest"));
    contract.users = substitute(contract.users, "is_deactivated", flag("u.deactivated"));
    contract.users = substitute(contract.users, "is_locked", locks ? flag("u.locked") : "false");
    contract.answers_table = "erased_users";
    contract.answers = answers_query(homeserver);
    contract.without_account = "the user of an appservice itself (its sender)";
    contract.threepids_table = "user_threepids";
    contract.threepids = substitute(
        "SELECT t.user_id::text, t.medium::text, t.address::text FROM {schema}.user_threepids t WHERE "
        "{where}",
        "schema", schema);
    // Old rows may have e-mail in any case; our list has it in lower case.
    contract.holders = substitute(
        "SELECT t.user_id::text, t.medium::text, t.address::text"
        " FROM ROWS FROM (unnest($1), unnest($2)) r(medium, address)"
        " JOIN {schema}.user_threepids t ON t.medium = r.medium AND t.address = r.address"
        " UNION ALL SELECT t.user_id::text, t.medium::text, t.address::text"
        " FROM {schema}.user_threepids t WHERE t.user_id = ANY ($3)",
        "schema", schema);
    contract.activity_name = "user_ips";
    contract.activity = substitute(
        "SELECT i.user_id::text, i.last_seen::bigint, i.user_agent::text FROM {schema}.user_ips i"
        " WHERE i.last_seen BETWEEN $1 AND $2 ORDER BY i.last_seen FETCH FIRST $3 ROWS WITH TIES",
        "schema", schema);
    const bool visits = homeserver.has("user_daily_visits", "user_id") &&
                        homeserver.has("user_daily_visits", "timestamp") &&
                        homeserver.has("user_daily_visits", "user_agent");
    if (visits) {
        contract.visits = substitute(
            "SELECT v.user_id::text, v.\"timestamp\"::bigint, v.user_agent::text"
            " FROM {schema}.user_daily_visits v WHERE v.\"timestamp\" BETWEEN $1 AND $2 ORDER BY "
            "v.\"timestamp\"",
            "schema", schema);
        contract.malformed_visits =
            malformed("user_daily_visits", "timestamp", schema + ".user_daily_visits");
    }
    contract.visits_table = "user_daily_visits";
    contract.cohort_table = "monthly_active_users";
    if (homeserver.has("monthly_active_users", "user_id") &&
        homeserver.has("monthly_active_users", "timestamp")) {
        contract.cohort = substitute(
            "SELECT c.user_id::text, c.\"timestamp\"::bigint FROM {schema}.monthly_active_users c"
            " WHERE c.\"timestamp\" BETWEEN 0 AND $1",
            "schema", schema);
        contract.counted = substitute(
            "SELECT m.user_id::text, m.\"timestamp\"::bigint FROM {schema}.monthly_active_users m"
            " LEFT JOIN {schema}.users u ON u.name = m.user_id WHERE coalesce(u.appservice_id::text, '') = "
            "''",
            "schema", schema);
    }
    contract.newest = substitute(
        "SELECT max(i.last_seen)::bigint FROM {schema}.user_ips i WHERE i.last_seen <= $1", "schema", schema);
    contract.last_seen = substitute(
        "SELECT i.user_id::text, max(i.last_seen)::bigint FROM {schema}.user_ips i"
        " WHERE i.last_seen BETWEEN 0 AND $1 GROUP BY i.user_id",
        "schema", schema);
    contract.malformed = malformed("user_ips", "last_seen", schema + ".user_ips");
    contract.usage = substitute(substitute(kUsage, "r30v2", "'{}'::jsonb"), "schema", schema);
    if (visits)
        contract.usage_with_visits = substitute(substitute(kUsage, "r30v2", kR30v2), "schema", schema);
    return contract;
}

}  // namespace mau::source
