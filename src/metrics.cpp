#include "exposition.hpp"

#include "metrics.hpp"

#include <algorithm>

#include "pg/values.hpp"
#include "tasks.hpp"

namespace mau::metrics {

namespace {

pg::Statement keep_query(
    "INSERT INTO mau.snapshots AS s (at, dau, wau, mau, max, by_service) VALUES ($1, $2, $3, $4, $5,"
    " coalesce((SELECT pg_catalog.jsonb_object_agg(b.service, b.users) FROM"
    "  ROWS FROM (pg_catalog.unnest($6), pg_catalog.unnest($7)) b(service, users)), '{}'::pg_catalog.jsonb))"
    " ON CONFLICT (at) DO UPDATE SET dau = EXCLUDED.dau, wau = EXCLUDED.wau, mau = EXCLUDED.mau,"
    " max = EXCLUDED.max, by_service = EXCLUDED.by_service",
    {TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTARRAYOID, INT8ARRAYOID});

// A refresh for a time to come must not purge the present.
pg::Statement purge_query(
    "DELETE FROM mau.snapshots s USING mau.settings t WHERE s.at OPERATOR(pg_catalog.<)"
    " (least($1, pg_catalog.now()) OPERATOR(pg_catalog.-) t.snapshot_retention)",
    {TIMESTAMPTZOID});

/// Keeps the figures of `at`; again for the same instant replaces them.
void keep(const Figures& figures, TimestampTz at) {
    std::vector<std::string_view> services;
    std::vector<std::int64_t> users;
    for (const auto& [service, count] : figures.by_service) {
        services.push_back(service);
        users.push_back(count);
    }
    keep_query.write(std::int64_t{at}, figures.dau, figures.wau, figures.mau, figures.max, services, users);
}

/// Removes snapshots older than snapshot_retention. Answers how many.
std::int64_t purge(TimestampTz at) {
    return static_cast<std::int64_t>(purge_query.write(std::int64_t{at}).count);
}

}  // namespace

Figures figures(const World& world, Instant at) {
    Figures figures;
    const cohort::Lately lately = cohort::lately_active(at);
    figures.dau = lately.day;
    figures.wau = lately.week;
    figures.mau = cohort::count(world, at);
    if (world.settings.limit_usage_by_mau) figures.max = world.settings.max_mau_value;
    figures.by_service = cohort::count_by_service(world, at);
    return figures;
}

std::string exposition(const World& world, Instant at) {
    std::vector<exposition::Label> common;
    if (world.settings.server_name) common.push_back({"server_name", *world.settings.server_name});
    exposition::Text text(std::move(common));

    text.gauge("synapse_admin_mau_current", "Current MAU");
    text.sample(cohort::count(world, at));

    text.gauge("synapse_admin_mau_current_mau_by_service", "Current MAU by service");
    auto services = cohort::count_by_service(world, at);
    // A series that comes and goes breaks alerts; that of the natives is always there.
    if (std::none_of(services.begin(), services.end(), [](const auto& s) { return s.service == "native"; }))
        services.push_back({"native", 0});
    for (const auto& [service, users] : services) text.sample(users, {{"app_service", service}});

    text.gauge("synapse_admin_mau_max", "MAU Limit");
    text.sample(world.settings.limit_usage_by_mau ? world.settings.max_mau_value : 0);

    text.gauge("synapse_admin_mau_registered_reserved_users", "Registered users with reserved threepids");
    text.sample(static_cast<std::int64_t>(directory::registered_reserved_users(world).size()));
    return text.str();
}

}  // namespace mau::metrics

namespace mau {
namespace {

Datum refresh(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const TimestampTz exact = DatumGetTimestampTz(fcinfo->args[0].value);
    pg::ResultSet result(fcinfo);
    const tasks::Task task("refresh");
    if (!task.begin()) {
        result.add({"busy", std::int64_t{0}});
        return Datum(0);
    }
    const std::int64_t purged = pg::with_spi([&] {
        metrics::keep(metrics::figures(directory::world(), at), exact);
        const std::int64_t gone = metrics::purge(exact);
        task.end(1 + gone);
        return gone;
    });
    result.add({"snapshot", std::int64_t{1}});
    result.add({"purged", purged});
    return Datum(0);
}

Datum metrics_text(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const std::string text = pg::with_spi([&] { return metrics::exposition(directory::world(), at); });
    return pg::text_datum(text);
}

}  // namespace

MAU_FUNCTION(mau_refresh, refresh);
MAU_FUNCTION(mau_metrics, metrics_text);

}  // namespace mau
