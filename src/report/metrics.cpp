#include "report/exposition.hpp"

#include "report/metrics.hpp"

#include "history/past.hpp"
#include "pg/values.hpp"
#include "tasks/tasks.hpp"

namespace mau::metrics {

namespace {

pg::Statement keep_query(
    "INSERT INTO mau.snapshots AS s (at, dau, wau, mau, max, by_service, daily_active_users, "
    "accounts_by_service)"
    " VALUES ($1, $2, $3, $4, $5, coalesce((SELECT jsonb_object_agg(b.service, b.users) FROM"
    "  ROWS FROM (unnest($6), unnest($7)) b(service, users)), '{}'::jsonb),"
    // Accounts of a bridge that is called native are added to the natives.
    " $8, (SELECT jsonb_object_agg(a.service, a.users) FROM"
    "  (SELECT n.service, sum(n.users) AS users FROM"
    "    ROWS FROM (unnest($9), unnest($10)) n(service, users) GROUP BY n.service) a))"
    " ON CONFLICT (at) DO UPDATE SET dau = EXCLUDED.dau, wau = EXCLUDED.wau, mau = EXCLUDED.mau,"
    " max = EXCLUDED.max, by_service = EXCLUDED.by_service, daily_active_users = EXCLUDED.daily_active_users,"
    " accounts_by_service = EXCLUDED.accounts_by_service",
    {TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTARRAYOID, INT8ARRAYOID, INT8OID, TEXTARRAYOID,
     INT8ARRAYOID});

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
pg::Statement last_accounts_query(MAU_FIGURES_OF_LAST_SNAPSHOT("accounts_by_service"), {TIMESTAMPTZOID});
#undef MAU_FIGURES_OF_LAST_SNAPSHOT

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

pg::Statement differences_query(
    "SELECT t.last_rows FROM mau.tasks t WHERE t.task = 'reconcile'"
    " AND t.last_rows IS NOT NULL AND EXISTS (SELECT FROM mau.source)");

void add_services(exposition::Text& text, const std::vector<cohort::Group>& services) {
    for (const auto& [service, users] : services) text.sample(users, {{"app_service", service}});
}

/// Counts by service as two arrays, which borrow the names.
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

/// Stores the figures of `at`; a second call for the same instant replaces them.
void keep(const Figures& figures, TimestampTz at) {
    const Columns members(figures.by_service), accounts(figures.accounts);
    keep_query.write(std::int64_t{at}, figures.dau, figures.wau, figures.mau, figures.max, members.services,
                     members.users, figures.daily_active_users, accounts.services, accounts.users);
}

/// Removes snapshots older than snapshot_retention. Returns how many.
std::int64_t purge(TimestampTz at) {
    return static_cast<std::int64_t>(purge_query.write(std::int64_t{at}).count);
}

}  // namespace

Figures figures(const Config& config, Instant at) {
    Figures figures;
    const cohort::Lately lately = cohort::lately_active(at);
    figures.dau = lately.day;
    figures.wau = lately.week;
    figures.mau = cohort::count(config, at);
    if (config.settings.limit_usage_by_mau) figures.max = config.settings.max_mau_value;
    figures.by_service = cohort::count_by_service(at);
    figures.daily_active_users = seen_query.read(at - kDay).at(0, 0).integer();
    figures.accounts = cohort::groups_of(accounts_of_services_query.read());
    figures.accounts.push_back({"native", accounts_query.read().at(0, 0).integer()});
    return figures;
}

std::string exposition(const Config& config, TimestampTz at) {
    std::vector<exposition::Label> common;
    if (config.settings.server_name) common.push_back({"server_name", *config.settings.server_name});
    exposition::Text text(std::move(common));

    text.gauge("synapse_admin_mau_current", "Current MAU");
    text.sample(cohort::count(config, pg::to_instant(at)));

    text.gauge("synapse_admin_mau_max", "MAU Limit");
    text.sample(config.settings.limit_usage_by_mau ? config.settings.max_mau_value : 0);

    text.gauge("synapse_admin_mau_registered_reserved_users", "Registered users with reserved threepids");
    text.sample(static_cast<std::int64_t>(config::reserved_users_of_statement().size()));

    // Figures that take a scan come from the last snapshot.
    if (const pg::Rows snapshot = last_snapshot_query.read(std::int64_t{at}); !snapshot.empty()) {
        text.gauge("synapse_admin_mau_current_mau_by_service", "Current MAU by service");
        auto members = cohort::groups_of(last_members_query.read(std::int64_t{at}));
        // A series that comes and goes breaks alerts; that of the natives is always there.
        if (members.empty() || members[0].name != "native") members.insert(members.begin(), {"native", 0});
        add_services(text, members);

        text.gauge("synapse_admin_daily_active_users", "Current daily active users count");
        text.sample(snapshot.at(0, 1).integer());

        text.gauge("synapse_non_deactivated_user_count", "Accounts that are not deactivated, by service");
        add_services(text, cohort::groups_of(last_accounts_query.read(std::int64_t{at})));

        text.gauge("mau_snapshot_age_seconds",
                   "Age of the snapshot that the daily users and the figures by service are from");
        text.sample(snapshot.at(0, 0).integer());
    }

    if (const pg::Rows differences = differences_query.read(); !differences.empty()) {
        text.gauge(
            "mau_reconcile_differences",
            "Users of whom the homeserver's tables had newer activity than mau, which was then recorded");
        text.sample(differences.at(0, 0).integer());
    }
    return text.str();
}

}  // namespace mau::metrics

namespace mau {
namespace {

Datum refresh(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const TimestampTz exact = DatumGetTimestampTz(fcinfo->args[0].value);
    return tasks::run(fcinfo, "refresh", [&](const tasks::Task& task, pg::ResultSet& result) {
        past::refuse(at, "A snapshot is of the present; ask mau.daily_series for past days.");
        metrics::keep(metrics::figures(*config::config(), at), exact);
        const std::int64_t purged = metrics::purge(exact);
        task.end(1 + purged);
        result.add({"snapshot", std::int64_t{1}});
        result.add({"purged", purged});
    });
}

Datum metrics_text(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const TimestampTz exact = DatumGetTimestampTz(fcinfo->args[0].value);
    const std::string text = pg::with_spi([&] {
        past::refuse(at, "Ask mau.daily_series for past days, or look into mau.snapshots.",
                     past::Whose::everybody);
        return metrics::exposition(*config::config(), exact);
    });
    return pg::text_datum(text);
}

}  // namespace

MAU_FUNCTION(mau_refresh, refresh);
MAU_FUNCTION(mau_metrics, metrics_text);

}  // namespace mau
