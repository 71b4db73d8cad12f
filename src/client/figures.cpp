#include "client/figures.hpp"

#include <fmt/format.h>

namespace mau::client {
namespace {

/// A question by its name in the JSON. $1 is the instant.
struct Question {
    const char* name;
    const char* sql;
};

constexpr Question kQuestions[] = {
    {"settings", R"sql(
SELECT server_name, CASE WHEN limit_usage_by_mau THEN max_mau_value END AS "limit" FROM mau.settings
WHERE $1::timestamptz IS NOT NULL)sql"},
    // By the history where the instant is in the past.
    {"active", R"sql(
SELECT mau.active_users('1 day', $1::timestamptz) AS dau, mau.active_users('7 days', $1::timestamptz) AS wau,
       mau.active_users('30 days', $1::timestamptz) AS mau)sql"},
    {"members", "SELECT mau.monthly_active_count($1::timestamptz) AS mau"},
    {"week_ago", R"sql(
SELECT p.dau, p.wau, p.mau FROM mau.snapshots p
WHERE p.at <= $1::timestamptz - interval '7 days' AND p.at > $1::timestamptz - interval '8 days'
ORDER BY p.at DESC LIMIT 1)sql"},
    {"series", R"sql(
SELECT day, dau, wau, mau, round(stickiness::numeric, 4) AS stickiness, new_users
FROM mau.daily_series(($1::timestamptz AT TIME ZONE 'UTC')::date - 365, ($1::timestamptz AT TIME ZONE 'UTC')::date)
ORDER BY day)sql"},
    // Twelve windows of 30 days, one behind the other, that end with the last day that is over.
    {"growth", R"sql(
SELECT g.day, g.mau, g.mau_before, g.new_users, g.retained, g.resurrected, g.churned,
       round(g.quick_ratio::numeric, 2) AS quick_ratio
FROM (SELECT ($1::timestamptz AT TIME ZONE 'UTC')::date - 1) last(day),
     mau.growth(last.day - 330, last.day) g
WHERE (last.day - g.day) % 30 = 0 ORDER BY g.day)sql"},
    {"retention_months", R"sql(
SELECT cohort_start, size, period, users, round(share::numeric, 4) AS share
FROM mau.retention('month', ($1::timestamptz AT TIME ZONE 'UTC')::date - 365, ($1::timestamptz AT TIME ZONE 'UTC')::date,
                   at => $1::timestamptz) ORDER BY cohort_start, period)sql"},
    {"retention_weeks", R"sql(
SELECT cohort_start, size, period, users, round(share::numeric, 4) AS share
FROM mau.retention('week', ($1::timestamptz AT TIME ZONE 'UTC')::date - 83, ($1::timestamptz AT TIME ZONE 'UTC')::date,
                   at => $1::timestamptz) ORDER BY cohort_start, period)sql"},
    {"days_active", "SELECT days, users FROM mau.days_active($1::timestamptz) ORDER BY days"},
    {"services", R"sql(
SELECT CASE WHEN n <= 20 THEN service END AS name, sum(users) AS users, count(*) AS names
FROM (SELECT service, users, row_number() OVER (ORDER BY users DESC, service) AS n
      FROM mau.monthly_active_count_by_service($1::timestamptz)) s
GROUP BY least(n, 21), 1 ORDER BY least(n, 21))sql"},
    {"hosts", R"sql(
SELECT CASE WHEN n <= 20 THEN host END AS name, sum(users) AS users, count(*) AS names
FROM (SELECT host, users, row_number() OVER (ORDER BY users DESC, host) AS n
      FROM mau.monthly_active_count_by_host($1::timestamptz)) h
GROUP BY least(n, 21), 1 ORDER BY least(n, 21))sql"},
    {"clients", R"sql(
SELECT coalesce(p.platform, 'all') AS name, s.mau, s.wau, s.dau, r.users AS r30v2
FROM unnest('{all,web,android,ios,electron,unknown}'::text[]) WITH ORDINALITY n(name, place)
     CROSS JOIN LATERAL (SELECT nullif(n.name, 'all')) p(platform)
     CROSS JOIN LATERAL mau.daily_series(($1::timestamptz AT TIME ZONE 'UTC')::date,
                                         ($1::timestamptz AT TIME ZONE 'UTC')::date, platform => p.platform) s
     LEFT JOIN mau.r30v2($1::timestamptz) r ON r.client = n.name
ORDER BY n.place)sql"},
    {"bills", R"sql(
SELECT to_char(month, 'YYYY-MM') AS month, service_name AS service, users, users_over, highest_mau,
       round(mean_mau::numeric, 1) AS mean_mau, partial
FROM mau.billing_months(at => $1::timestamptz) ORDER BY month DESC, service_name <> 'native', service_name)sql"},
    {"forecast", R"sql(
SELECT day, mau, target_mau, round(per_day::numeric, 2) AS per_day, round(r_squared::numeric, 2) AS r_squared,
       reaches, days_left, assumption FROM mau.forecast(at => $1::timestamptz))sql"},
    {"health", "SELECT health, reason FROM mau.health($1::timestamptz)"},
    {"state", R"sql(
SELECT worker, source, finds_new_by, date_trunc('second', lag)::text AS lag, skipped_rows, reconcile_differences,
       seats, seen_cache, to_char(last_tick, 'YYYY-MM-DD HH24:MI:SS') AS last_tick
FROM mau.status WHERE $1::timestamptz IS NOT NULL)sql"},
    {"tasks", R"sql(
SELECT task, to_char(last_finished, 'YYYY-MM-DD HH24:MI:SS') AS last_run,
       round(1000 * extract(epoch FROM last_duration), 1) AS milliseconds,
       last_rows AS rows, failures_in_a_row, to_char(next_run, 'YYYY-MM-DD HH24:MI:SS') AS next_run
FROM mau.tasks WHERE $1::timestamptz IS NOT NULL ORDER BY task)sql"},
};

nlohmann::ordered_json ask(Connection& connection, const Question& question, const std::string& at) {
    connection.run_all("SAVEPOINT question");
    try {
        const Rows rows = connection.run(
            fmt::format("SELECT coalesce(json_agg(q), '[]') AS answer FROM ({}) q", question.sql), {at});
        return nlohmann::ordered_json::parse(rows.text(0, "answer"));
    } catch (const Problem& problem) {
        // Raises again where the connection is lost.
        connection.run_all("ROLLBACK TO SAVEPOINT question");
        return {{"problem", hide_user_ids(problem.what())}, {"hint", hide_user_ids(problem.hint())}};
    }
}

std::string instant(Connection& connection, const std::string& at) {
    try {
        return connection
            .run("SELECT coalesce($1::timestamptz, now())::text AS at", {at.empty() ? Cell() : Cell(at)})
            .text(0, "at");
    } catch (const Problem& problem) {
        if (at.empty()) throw;
        throw Problem(problem.what(), "give --at a time such as '2026-10-31 12:00+00'", kBadInput);
    }
}

bool is_word(char c) {
    return static_cast<unsigned char>(c) > ' ' && c != '(' && c != ')' && c != '"' && c != '\'' && c != ',' &&
           c != ';';
}

}  // namespace

nlohmann::ordered_json read_figures(Connection& connection, const std::string& at) {
    connection.run_all("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const std::string when = instant(connection, at);
    nlohmann::ordered_json figures;
    figures["at"] = when;
    figures["database"] = connection.name();
    figures["program"] = MAU_VERSION;
    for (const Question& question : kQuestions) figures[question.name] = ask(connection, question, when);
    connection.run_all("COMMIT");
    if (auto& health = figures["health"]; health.is_array()) {
        for (auto& row : health) row["reason"] = hide_user_ids(row["reason"].get<std::string>());
    }
    return figures;
}

std::string hide_user_ids(const std::string& message) {
    std::string result;
    for (std::size_t i = 0; i < message.size();) {
        std::size_t end = i;
        while (end < message.size() && is_word(message[end])) ++end;
        const std::string_view word(message.data() + i, end - i);
        result += word.find('@') == std::string_view::npos ? std::string(word) : "(user)";
        if (end < message.size()) result += message[end++];
        i = end;
    }
    return result;
}

}  // namespace mau::client
