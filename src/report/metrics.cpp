#include "report/exposition.hpp"

#include "report/metrics.hpp"

#include <algorithm>

#include "cache/cache.hpp"
#include "cohort/alert.hpp"
#include "history/past.hpp"
#include "pg/values.hpp"
#include "seats/seats.hpp"
#include "tasks/tasks.hpp"

namespace mau::metrics {

namespace {

pg::Statement keep_query(
    "INSERT INTO mau.snapshots AS s (at, dau, wau, mau, max, by_service, daily_active_users,"
    "  accounts_by_service, daily_by_service, weekly_by_service, usage, forecast)"
    " SELECT $1, coalesce((m.day->>'native')::int8, 0), coalesce((m.week->>'native')::int8, 0), $2, $3,"
    "  m.month, $4, a.accounts, m.day, m.week, $11::jsonb, $12::jsonb"
    " FROM (SELECT coalesce(jsonb_object_agg(b.service, b.month), '{}') AS month,"
    "        coalesce(jsonb_object_agg(b.service, b.week), '{}') AS week,"
    "        coalesce(jsonb_object_agg(b.service, b.day), '{}') AS day"
    "       FROM ROWS FROM (unnest($5), unnest($6), unnest($7), unnest($8)) b(service, day, week, month)) m,"
    "      (SELECT jsonb_object_agg(c.service, c.users) AS accounts"
    "       FROM ROWS FROM (unnest($9), unnest($10)) c(service, users)) a"
    " ON CONFLICT (at) DO UPDATE SET dau = EXCLUDED.dau, wau = EXCLUDED.wau, mau = EXCLUDED.mau,"
    " max = EXCLUDED.max, by_service = EXCLUDED.by_service, daily_active_users = EXCLUDED.daily_active_users,"
    " accounts_by_service = EXCLUDED.accounts_by_service, daily_by_service = EXCLUDED.daily_by_service,"
    " weekly_by_service = EXCLUDED.weekly_by_service, usage = EXCLUDED.usage, forecast = EXCLUDED.forecast",
    {TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
     TEXTARRAYOID, INT8ARRAYOID, TEXTOID, TEXTOID});

// The newest snapshot up to an instant: its age in seconds, and its figures by service, natives first.
pg::Statement last_snapshot_query(
    "SELECT floor(extract(epoch FROM $1 - s.at))::int8, s.daily_active_users FROM mau.snapshots s"
    " WHERE s.at <= $1 ORDER BY s.at DESC "
    "LIMIT 1",
    {TIMESTAMPTZOID});
#define MAU_FIGURES_OF_LAST_SNAPSHOT(column)                 \
    "SELECT f.service, f.users::int8 FROM (SELECT s." column \
    " AS figures FROM mau.snapshots s"                       \
    "  WHERE s.at <= $1 ORDER BY s.at DESC LIMIT 1) l,"      \
    " jsonb_each_text(l.figures) f(service, users)"          \
    " ORDER BY f.service <> 'native', f.service COLLATE \"C\""
pg::Statement last_members_query(MAU_FIGURES_OF_LAST_SNAPSHOT("by_service"), {TIMESTAMPTZOID});
pg::Statement last_weekly_query(MAU_FIGURES_OF_LAST_SNAPSHOT("weekly_by_service"), {TIMESTAMPTZOID});
pg::Statement last_daily_query(MAU_FIGURES_OF_LAST_SNAPSHOT("daily_by_service"), {TIMESTAMPTZOID});
pg::Statement last_accounts_query(MAU_FIGURES_OF_LAST_SNAPSHOT("accounts_by_service"), {TIMESTAMPTZOID});
#undef MAU_FIGURES_OF_LAST_SNAPSHOT

// The homeserver's own figures, as of the last hours: they cost the homeserver's tables a scan.
pg::Statement wants_usage_query(
    "SELECT t.usage_metrics AND EXISTS (SELECT FROM mau.source) AND NOT EXISTS (SELECT FROM mau.snapshots s"
    "  WHERE s.at > $1 - interval '1 hour' AND s.at <= $1 AND s.usage IS NOT NULL) FROM mau.settings t",
    {TIMESTAMPTZOID});
pg::Statement usage_query("SELECT mau.usage_statistics($1)::text", {TIMESTAMPTZOID});
pg::Statement last_usage_query(
    "SELECT f.key, f.value::numeric::int8 FROM (SELECT s.at, s.usage FROM mau.snapshots s"
    "  WHERE s.at <= $1 AND s.at > $1 - interval '1 day' AND jsonb_typeof(s.usage) = 'object'"
    "   AND (SELECT t.usage_metrics FROM mau.settings t) ORDER BY s.at DESC LIMIT 1) l,"
    " jsonb_each(l.usage || jsonb_build_object('timestamp', floor(extract(epoch FROM l.at)))) f(key, value)"
    " WHERE jsonb_typeof(f.value) = 'number' AND f.key ~ '^[a-z_][a-z0-9_]{0,99}$'"
    "  AND f.value::numeric BETWEEN -9e18 AND 9e18 ORDER BY f.key COLLATE \"C\" LIMIT 100",
    {TIMESTAMPTZOID});

// The forecast reads the history of some months. One for another limit than today's is no answer.
#define MAU_FORECAST_FOR_LIMIT "(s.forecast->>'target_mau')::int8 = t.max_mau_value"
pg::Statement wants_forecast_query(
    "SELECT t.limit_usage_by_mau AND t.max_mau_value > 0 AND NOT EXISTS (SELECT FROM mau.snapshots s"
    "  WHERE " MAU_FORECAST_FOR_LIMIT
    "   AND s.at > $1 - interval '1 hour' AND s.at <= $1)"
    " FROM mau.settings t",
    {TIMESTAMPTZOID});
pg::Statement forecast_query("SELECT to_jsonb(f)::text FROM mau.forecast(at => $1) f", {TIMESTAMPTZOID});
pg::Statement last_forecast_query(
    "SELECT extract(epoch FROM (s.forecast->>'reaches')::date)::int8 FROM mau.snapshots s, mau.settings t"
    " WHERE s.at <= $1 AND s.at > $1 - interval '1 day' AND " MAU_FORECAST_FOR_LIMIT
    " ORDER BY s.at DESC LIMIT 1",
    {TIMESTAMPTZOID});
#undef MAU_FORECAST_FOR_LIMIT

// mau.health refuses an instant that lies before the last tasks.
pg::Statement health_query(
    "SELECT h.health FROM (SELECT $1 AS at WHERE $1 >= now() OR NOT EXISTS"
    "  (SELECT FROM mau.tasks t WHERE t.last_finished > $1 + interval '5 min') OFFSET 0) a,"
    " LATERAL mau.health(a.at) h",
    {TIMESTAMPTZOID});

// A refresh for a future instant must not purge the present. A thousand years mean for ever.
pg::Statement purge_query(
    "DELETE FROM mau.snapshots s USING mau.settings t"
    " WHERE s.at < least($1, now()) - least(t.snapshot_retention, make_interval(years => 1000))",
    {TIMESTAMPTZOID});

// Counts a member with an older sighting in mau.users once.
pg::Statement seen_query(
    "SELECT (SELECT count(*) FROM mau.monthly_active_users m WHERE m.\"timestamp\" > $1)"
    " + (SELECT count(*) FROM mau.users u WHERE u.last_seen > $1 AND NOT EXISTS"
    "     (SELECT 1 FROM mau.monthly_active_users m WHERE m.user_id = u.user_id AND m.\"timestamp\" > $1))",
    {INT8OID});
// Natives and the others apart: grouping a million rows by an expression takes three times as long.
pg::Statement accounts_query(
    "SELECT count(*) FROM mau.users u WHERE u.is_registered AND NOT u.is_deactivated"
    " AND u.user_id IS NOT NULL AND (u.appservice_id <> '') IS NOT TRUE");
pg::Statement accounts_of_services_query(
    "SELECT u.appservice_id, count(*) FROM mau.users u WHERE u.appservice_id <> ''"
    " AND u.is_registered AND NOT u.is_deactivated AND u.user_id IS NOT NULL"
    " GROUP BY u.appservice_id");

pg::Statement successes_query(
    "SELECT t.task, floor(extract(epoch FROM t.last_finished))::int8 FROM mau.tasks t"
    " WHERE t.last_finished IS NOT NULL ORDER BY t.task");
pg::Statement lag_query(
    "SELECT greatest(0, floor(extract(epoch FROM $1 - s.synced_at)))::int8 FROM mau.source s"
    " WHERE s.synced_at IS NOT NULL",
    {TIMESTAMPTZOID});
pg::Statement differences_query(
    "SELECT t.last_rows FROM mau.tasks t WHERE t.task = 'reconcile'"
    " AND t.last_rows IS NOT NULL AND EXISTS (SELECT FROM mau.source)");

pg::Statement database_label_query(
    "SELECT current_database()::text FROM mau.settings s WHERE s.metrics_database_label");

constexpr std::size_t kMostServices = 100;
constexpr std::string_view kHealthWords[] = {"ok",   "idle",    "starting", "paused", "waiting",
                                             "late", "failing", "off",      "standby"};

/// The natives, who are always there because a series that comes and goes breaks alerts, and the services
/// with most users; the rest is added up as "other", so that the number of series has a bound.
std::vector<cohort::Group> bounded(std::vector<cohort::Group> services) {
    if (services.empty() || services[0].name != "native") services.insert(services.begin(), {"native", 0});
    if (services.size() <= kMostServices) return services;
    std::stable_sort(services.begin() + 1, services.end(),
                     [](const cohort::Group& a, const cohort::Group& b) { return a.users > b.users; });
    std::int64_t rest = 0;
    while (services.size() > kMostServices) {
        rest += services.back().users;
        services.pop_back();
    }
    const auto other = std::find_if(services.begin(), services.end(),
                                    [](const cohort::Group& group) { return group.name == "other"; });
    if (other == services.end())
        services.push_back({"other", rest});
    else
        other->users += rest;
    return services;
}

void add_services(exposition::Text& text, const pg::Rows& rows) {
    for (const auto& [service, users] : bounded(cohort::groups_of(rows)))
        text.sample(users, {{"app_service", service}});
}

void add_active(exposition::Text& text, std::string_view period, const pg::Rows& rows) {
    for (const auto& [service, users] : bounded(cohort::groups_of(rows)))
        text.sample(users, {{"period", period}, {"service", service}});
}

/// Synapse's gauges, under its names.
void add_synapse(exposition::Text& text, const Config& config, TimestampTz at, std::int64_t current) {
    text.gauge("synapse_admin_mau_current", "Current MAU");
    text.sample(current);

    text.gauge("synapse_admin_mau_max", "MAU Limit");
    text.sample(config.settings.limit_usage_by_mau ? config.settings.max_mau_value : 0);

    text.gauge("synapse_admin_mau_registered_reserved_users", "Registered users with reserved threepids");
    text.sample(static_cast<std::int64_t>(config::reserved_users_of_statement().size()));

    const pg::Rows snapshot = last_snapshot_query.read(std::int64_t{at});
    if (snapshot.empty()) return;
    text.gauge("synapse_admin_mau_current_mau_by_service", "Current MAU by service");
    add_services(text, last_members_query.read(std::int64_t{at}));

    text.gauge("synapse_admin_daily_active_users", "Current daily active users count");
    text.sample(snapshot.at(0, 1).integer());

    text.gauge("synapse_non_deactivated_user_count", "Accounts that are not deactivated, by service");
    add_services(text, last_accounts_query.read(std::int64_t{at}));

    text.gauge("mau_active_users", "Members who were seen within the period, by service");
    add_active(text, "24h", last_daily_query.read(std::int64_t{at}));
    add_active(text, "7d", last_weekly_query.read(std::int64_t{at}));
    add_active(text, "30d", last_members_query.read(std::int64_t{at}));

    text.gauge("mau_snapshot_age_seconds",
               "Age of the snapshot that the daily users and the figures by service are from");
    text.sample(snapshot.at(0, 0).integer());
}

void add_limit(exposition::Text& text, const Config& config, TimestampTz at, std::int64_t current) {
    const bool limit = config.settings.limit_usage_by_mau;
    text.gauge("mau_limit_users", "The limit of monthly active users; 0: none");
    text.sample(limit ? config.settings.max_mau_value : 0);
    if (!limit) return;
    text.gauge("mau_seats_free_users", "Newcomers who can still come in");
    text.sample(
        std::max<std::int64_t>(0, config.settings.max_mau_value - current - seats::in_flight_elsewhere()));
    const pg::Rows forecast = last_forecast_query.read(std::int64_t{at});
    if (forecast.empty() || forecast.at(0, 0).is_null()) return;
    text.gauge("mau_limit_reached_timestamp_seconds", "When the limit is reached, by mau.forecast");
    text.sample(forecast.at(0, 0).integer());
}

/// A series for each word of mau.health, of which one is 1.
void add_health(exposition::Text& text, TimestampTz at) {
    const pg::Rows health = health_query.read(std::int64_t{at});
    if (health.empty()) return;
    text.gauge("mau_health", "Whether mau.health is this word");
    for (const std::string_view word : kHealthWords)
        text.sample(health.at(0, 0).text() == word, {{"state", word}});
}

void add_tasks(exposition::Text& text, TimestampTz at) {
    if (const pg::Rows successes = successes_query.read(); !successes.empty()) {
        text.gauge("mau_worker_last_success_timestamp_seconds", "When a task last ended without an error");
        for (const auto& [task, when] : cohort::groups_of(successes)) text.sample(when, {{"task", task}});
    }
    if (const pg::Rows lag = lag_query.read(std::int64_t{at}); !lag.empty()) {
        text.gauge("mau_source_lag_seconds", "Time since the homeserver's tables were last read");
        text.sample(lag.at(0, 0).integer());
    }
    if (const pg::Rows differences = differences_query.read(); !differences.empty()) {
        text.gauge(
            "mau_reconcile_differences",
            "Users of whom the homeserver's tables had newer activity than mau, which was then recorded");
        text.sample(differences.at(0, 0).integer());
    }
}

/// The numbers of events in shared memory, since the server started.
void add_counters(exposition::Text& text) {
    const auto totals = seats::totals();
    if (!totals) return;
    const auto counter = [&](std::string_view name, std::string_view help, std::int64_t value) {
        text.counter(name, help);
        text.sample(value);
    };
    text.counter("mau_blocked_requests_total", "Refused requests: the server was full, or closed");
    text.sample(totals->blocked_full, {{"kind", "full"}});
    text.sample(totals->blocked_disabled, {{"kind", "hs_disabled"}});
    counter("mau_seat_recounts_total", "How often the counters of the limit were taken from the table",
            totals->recounts);
    counter("mau_seat_corrections_total", "Recounts that found the counters wrong", totals->corrected);
    counter("mau_sightings_ahead_total", "Sightings ahead of the clock, recorded as of now", totals->ahead);
    counter("mau_lost_calls_total", "Calls that could be neither carried out nor deferred", totals->lost);
    const cache::Usage usage = cache::usage();
    text.gauge("mau_cache_size_bytes", "Size of the cache of recently seen users, of all databases");
    text.sample(usage.size);
    counter("mau_cache_hits_total", "Look-ups that the cache answered, in all databases", usage.hits);
    counter("mau_cache_misses_total", "Look-ups that the cache did not answer, in all databases",
            usage.misses);
}

/// The homeserver's own figures, under the names that synapse-usage-exporter gives them.
void add_usage(exposition::Text& text, TimestampTz at) {
    for (const auto& [key, value] : cohort::groups_of(last_usage_query.read(std::int64_t{at}))) {
        text.gauge("synapse_usage_" + key, key);
        text.sample(value);
    }
}

/// Names and numbers as two arrays, which borrow the names.
struct Columns {
    explicit Columns(const std::vector<cohort::Group>& counts) {
        for (const auto& [service, count] : counts) {
            services.push_back(service);
            users.push_back(count);
        }
    }
    std::vector<std::string_view> services;
    std::vector<std::int64_t> users;
};

/// A JSON value that a snapshot can do without: nothing, and a line in the log, where the statement fails.
std::optional<std::string> attempt_json(pg::Statement& query, TimestampTz at, const char* what) {
    std::string json;
    const auto trouble = pg::attempt([&] { json = query.read_latest(std::int64_t{at}).at(0, 0).string(); });
    if (!trouble) return json;
    pg::guard([&] { ereport(LOG, (errmsg("mau could not read %s: %s", what, trouble->message.c_str()))); });
    return std::nullopt;
}

/// Stores the figures of `at`; a second call for the same instant replaces them.
void keep(const Figures& figures, TimestampTz at) {
    const Columns day(figures.lately.day), week(figures.lately.week), month(figures.lately.month),
        accounts(figures.accounts);
    std::optional<std::string> usage, forecast;
    if (wants_usage_query.read_latest(std::int64_t{at}).at(0, 0).boolean())
        usage = attempt_json(usage_query, at, "the homeserver's own figures");
    if (wants_forecast_query.read_latest(std::int64_t{at}).at(0, 0).boolean())
        forecast = attempt_json(forecast_query, at, "the history for a forecast");
    const pg::Rows written = keep_query.write(
        std::int64_t{at}, figures.mau, figures.max, figures.daily_active_users, day.services, day.users,
        week.users, month.users, accounts.services, accounts.users, usage, forecast);
    if (written.count == 0) throw not_written("mau.snapshots");
}

/// Removes snapshots older than snapshot_retention. Returns how many.
std::int64_t purge(TimestampTz at) {
    return static_cast<std::int64_t>(purge_query.write(std::int64_t{at}).count);
}

}  // namespace

Figures figures(const Config& config, Instant at) {
    Figures figures;
    figures.mau = cohort::count(config, at);
    if (config.settings.limit_usage_by_mau) figures.max = config.settings.max_mau_value;
    figures.lately = cohort::lately_active(at);
    figures.daily_active_users = seen_query.read(at - kDay).at(0, 0).integer();
    figures.accounts = cohort::groups_of(accounts_of_services_query.read());
    figures.accounts.push_back({"native", accounts_query.read().at(0, 0).integer()});
    return figures;
}

exposition::Text exposition(const Config& config, TimestampTz at) {
    std::vector<exposition::Label> common;
    const pg::Rows database = database_label_query.read();
    if (!database.empty()) common.push_back({"database", database.at(0, 0).text()});
    if (config.settings.server_name) common.push_back({"server_name", *config.settings.server_name});
    exposition::Text text(std::move(common));
    const std::int64_t current = cohort::count(config, pg::to_instant(at));
    add_synapse(text, config, at, current);
    add_limit(text, config, at, current);
    add_health(text, at);
    add_tasks(text, at);
    add_counters(text);
    add_usage(text, at);
    return text;
}

}  // namespace mau::metrics

namespace mau {
namespace {

Datum refresh(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const TimestampTz exact = DatumGetTimestampTz(fcinfo->args[0].value);
    return tasks::run(fcinfo, "refresh", [&](const tasks::Task& task, pg::ResultSet& result) {
        past::refuse(at, "A snapshot is of the present; ask mau.daily_series for past days.");
        const auto config = config::config();
        metrics::keep(metrics::figures(*config, at), exact);
        cohort::look_at_limit(*config, at, cohort::AlertCause::task);
        const std::int64_t purged = metrics::purge(exact);
        task.end(1 + purged);
        result.add({"snapshot", std::int64_t{1}});
        result.add({"purged", purged});
    });
}

exposition::Text exposition_of(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const TimestampTz exact = DatumGetTimestampTz(fcinfo->args[0].value);
    return pg::with_spi([&] {
        past::refuse(at, "Ask mau.daily_series for past days, or look into mau.snapshots.",
                     past::Whose::everybody);
        return metrics::exposition(*config::config(), exact);
    });
}

Datum metrics_text(FunctionCallInfo fcinfo) {
    return pg::text_datum(exposition_of(fcinfo).str());
}

Datum metric_samples(FunctionCallInfo fcinfo) {
    const exposition::Text text = exposition_of(fcinfo);
    pg::ResultSet result(fcinfo);
    for (const exposition::Sample& sample : text.samples())
        result.add({sample.name, pg::Param::of(pg::jsonb_datum(sample.labels)), sample.value});
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_refresh, refresh);
MAU_FUNCTION(mau_metrics, metrics_text);
MAU_FUNCTION(mau_samples, metric_samples);

}  // namespace mau
