// Synapse's tables (any schema version that has these columns): users, user_ips, user_threepids.
// creation_ts is in seconds, last_seen in milliseconds. Flags were smallint and may become boolean.
#include "source/contract.hpp"

namespace mau::source {

Contract synapse(const Place& place) {
    const std::string& schema = place.schema;
    Contract contract;
    contract.needs = {
        {"users", {"name", "creation_ts", "is_guest", "appservice_id", "user_type", "deactivated"}},
        {"user_ips", {"user_id", "user_agent", "last_seen"}},
        {"user_threepids", {"user_id", "medium", "address"}},
    };
    contract.users_table = "users";
    contract.users = substitute(
        "SELECT u.name::text,"
        // Out of range stays out of range in milliseconds, so that it is seen for what it is.
        " CASE WHEN u.creation_ts::bigint BETWEEN -9000000000000 AND 9000000000000"
        "      THEN u.creation_ts::bigint * 1000 ELSE u.creation_ts::bigint END,"
        " u.user_type::text, u.appservice_id::text,"
        " coalesce(u.is_guest::text IN ('1', 't', 'true'), false),"
        " coalesce(u.deactivated::text IN ('1', 't', 'true'), false)"
        " FROM {schema}.users u WHERE {where} ORDER BY u.creation_ts NULLS FIRST",
        "schema", schema);
    contract.threepids_table = "user_threepids";
    contract.threepids = substitute(
        "SELECT t.user_id::text, t.medium::text, t.address::text FROM {schema}.user_threepids t WHERE {where}",
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
    contract.newest = substitute(
        "SELECT max(i.last_seen)::bigint FROM {schema}.user_ips i WHERE i.last_seen <= $1", "schema", schema);
    contract.last_seen = substitute(
        "SELECT i.user_id::text, max(i.last_seen)::bigint FROM {schema}.user_ips i"
        " WHERE i.last_seen BETWEEN 0 AND $1 GROUP BY i.user_id",
        "schema", schema);
    contract.malformed = substitute(
        "(SELECT 'user_ips', 'last_seen is missing', i.user_id::text FROM {schema}.user_ips i"
        "  WHERE i.last_seen IS NULL LIMIT 1000) UNION ALL "
        "(SELECT 'user_ips', 'last_seen is negative', i.user_id::text FROM {schema}.user_ips i"
        "  WHERE i.last_seen < 0 LIMIT 1000) UNION ALL "
        "(SELECT 'user_ips', 'last_seen is in the future', i.user_id::text FROM {schema}.user_ips i"
        "  WHERE i.last_seen > $1 + 86400000 LIMIT 1000)",
        "schema", schema);
    contract.usage = substitute(
        "SELECT jsonb_build_object("
        "'daily_active_users', (SELECT count(DISTINCT i.user_id) FROM {schema}.user_ips i"
        "                        WHERE i.last_seen > $1 - 86400000),"
        "'monthly_active_users', (SELECT count(DISTINCT i.user_id) FROM {schema}.user_ips i"
        "                          WHERE i.last_seen > $1 - 2592000000),"
        "'total_users', count(*), 'total_nonbridged_users', count(*) FILTER (WHERE u.appservice_id IS NULL),"
        "'daily_user_type_native', count(*) FILTER (WHERE NOT u.guest AND u.appservice_id IS NULL AND u.young),"
        "'daily_user_type_guest', count(*) FILTER (WHERE u.guest AND u.appservice_id IS NULL AND u.young),"
        "'daily_user_type_bridged', count(*) FILTER (WHERE NOT u.guest AND u.appservice_id IS NOT NULL AND u.young))"
        " FROM (SELECT nullif(a.appservice_id::text, '') AS appservice_id,"
        "              coalesce(a.is_guest::text IN ('1', 't', 'true'), false) AS guest,"
        "              coalesce(a.creation_ts::bigint > $1 / 1000 - 86400, false) AS young"
        "         FROM {schema}.users a) u",
        "schema", schema);
    return contract;
}

}  // namespace mau::source
