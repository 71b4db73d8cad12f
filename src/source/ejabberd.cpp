// ejabberd's tables with either SQL schema: last(username, seconds, state), users(username, created_at), the
// newer one with server_host in both. `seconds` is Unix seconds as text, written at logout; there is no index
// on it. private_storage(username, namespace, …), with server_host in the newer schema, has a row for each
// account that ban_account has banned.
#include "source/contract.hpp"

namespace mau::source {

Contract ejabberd(const Homeserver& homeserver) {
    const bool hosts = homeserver.has("last", "server_host");
    const bool accounts = homeserver.has("users", "username");
    const bool bans = accounts && homeserver.has("private_storage", "namespace") &&
                      (!hosts || homeserver.has("private_storage", "server_host"));
    auto bound = [&](std::string text) {
        // The older schema serves one host and does not say which: mau.settings.server_name does.
        const std::string host = hosts ? "{row}.server_host" : "{server_name}::text";
        text = substitute(text, "host", substitute(host, "row", "a"));
        text = substitute(text, "user_id",
                          hosts || !homeserver.server_name.empty()
                              ? "a.username || '@' || " + substitute(host, "row", "a")
                              : "a.username::text");
        text = substitute(text, "and_host", hosts ? ", a.server_host" : "");
        text = substitute(text, "and_same_host", hosts ? " AND p.server_host = a.server_host" : "");
        text = substitute(text, "and_host_of_ban", hosts ? ", p.server_host" : "");
        text = substitute(text, "and_host_of_id", hosts ? ", split_part(h.id, '@', 2)" : "");
        text = substitute(text, "name_of_id", "split_part(h.id, '@', 1)");
        text = substitute(text, "banned", "p.namespace = 'jabber:ejabberd:banned'");
        text = substitute(text, "seconds", "substring(a.seconds FROM '^[0-9]{1,10}$')::bigint");
        // A text from a setting comes last, so that nothing is put into it.
        return substitute(substitute(text, "schema", homeserver.schema), "server_name",
                          homeserver.server_name.empty() ? "''" : homeserver.server_name);
    };
    Contract contract;
    contract.needs = {{"last", {"username", "seconds", "state"}}};
    if (hosts) contract.needs.front().columns.push_back("server_host");
    if (accounts) {
        contract.needs.push_back({"users", {"username", "created_at"}});
        if (hosts) contract.needs.back().columns.push_back("server_host");
        contract.users_table = "users";
        contract.local_times_table = "users";
        contract.local_times = "created_at";
        // From 25.03 on a user has a row for each kind of password. -1 is reported as out of range.
        const std::string query =
            "SELECT {user_id}, CASE WHEN min(a.created_at) NOT BETWEEN '0001-01-01' AND '9999-12-31' THEN -1"
            " ELSE floor(extract(epoch FROM min(a.created_at)::timestamptz) * 1000)::bigint END, NULL::text,"
            " NULL::text, false, " +
            std::string(bans ? "EXISTS (SELECT FROM {schema}.private_storage p WHERE p.username = "
                               "a.username{and_same_host} AND {banned})"
                             : "false") +
            ", false FROM {schema}.users a WHERE {which} GROUP BY a.username{and_host}"
            " ORDER BY min(a.created_at)";
        contract.users = bound(substitute(query, "which", "{where}"));
        if (bans) {
            contract.needs.push_back({"private_storage", {"username", "namespace"}});
            if (hosts) contract.needs.back().columns.push_back("server_host");
            contract.bans_table = "private_storage";
            contract.bans = bound(substitute(
                query, "which",
                "(a.username{and_host}) IN (SELECT p.username{and_host_of_ban} FROM {schema}.private_storage "
                "p WHERE {where} AND {banned})"));
            contract.accounts = bound(substitute(
                query, "which",
                "(a.username{and_host}) IN (SELECT {name_of_id}{and_host_of_id} FROM unnest($1) h(id))"));
        }
    }
    contract.rows_go = "in mau only: their accounts were removed";
    contract.activity_table = "last";
    contract.activity = bound(
        "SELECT {user_id}, {seconds} * 1000, NULL::text FROM {schema}.last a"
        " WHERE {where} AND a.state <> 'Registered but didn''t login' AND {seconds} IS NOT NULL");
    complete(contract);
    contract.malformed = bound(
        "SELECT 'last', CASE WHEN {seconds} IS NULL THEN 'seconds is not a number of seconds' ELSE 'seconds "
        "is in the future' END,"
        " {user_id} FROM {schema}.last a WHERE {where} AND a.state <> 'Registered but didn''t login'"
        " AND ({seconds} IS NULL OR {seconds} * 1000 > $1 + 86400000) LIMIT 1000");
    // ejabberd counts active users only without SQL (num_active_users); the same here, strictly less, per
    // host, but without those who never logged in.
    contract.usage = bound(
        "WITH figures AS (SELECT {host} AS host, floor($1 / 1000.0) - {seconds} AS age,"
        "   a.state <> 'Registered but didn''t login' AS seen FROM {schema}.last a)"
        " SELECT jsonb_build_object('hosts', coalesce(jsonb_object_agg(h.host, jsonb_build_object("
        "   '1d', h.day, '7d', h.week, '30d', h.month)), '{}'::jsonb)) FROM (SELECT f.host,"
        "   count(*) FILTER (WHERE f.seen AND f.age < 86400) AS day,"
        "   count(*) FILTER (WHERE f.seen AND f.age < 604800) AS week,"
        "   count(*) FILTER (WHERE f.seen AND f.age < 2592000) AS month FROM figures f GROUP BY f.host) h");
    return contract;
}

}  // namespace mau::source
