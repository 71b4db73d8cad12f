#include "rules/calendar.hpp"

#include "worker/fleet.hpp"

#include "pg/shmem.hpp"
#include "pg/values.hpp"

namespace mau::worker::fleet {

namespace {

// The daily and weekly users are those of the last snapshot, because counting them takes a scan.
pg::Statement figures_query(
    "SELECT h.health, h.reason, s.dau, s.wau, c.users,"
    " CASE WHEN t.limit_usage_by_mau THEN t.max_mau_value END::int8,"
    " coalesce(t.hs_disabled OR t.limit_usage_by_mau AND c.users >= t.max_mau_value, false)"
    " FROM mau.health() h CROSS JOIN mau.monthly_active_count() c(users)"
    " LEFT JOIN mau.settings t ON true"
    " LEFT JOIN (SELECT n.dau, n.wau FROM mau.snapshots n WHERE n.at <= now() ORDER BY n.at DESC LIMIT 1) s"
    " ON true");

/// The word for a database, and its reason.
struct Verdict {
    std::string health, reason;
};

std::string time_text(TimestampTz time) {
    return pg::guard([&] { return timestamptz_to_str(time); });
}

/// The state of a database with a slot: that of its worker where this keeps the published one from being up
/// to date, else the published one.
Verdict judge(const slots::State& worker, const slots::Member& member, TimestampTz now) {
    const Slot& slot = member.slot;
    const TimestampTz tick = options.tick_interval * USECS_PER_SEC;
    constexpr TimestampTz kGrace = 30 * USECS_PER_SEC;
    if (!worker.launcher) return {"off", "the launcher is not running"};
    if (!options.enabled) return {"off", "mau.worker is off"};
    if (slot.error[0]) return {"failing", pg::readable(slot.error) + " (SQLSTATE " + slot.error_state + ")"};
    if (slot.running && now - slot.started > 3 * tick + kGrace)
        return {"late", "the worker is at work here since " + time_text(slot.started)};
    if (!slot.running && slot.started != 0 && now - due(slot) > 2 * tick + kGrace)
        return {"late", "a tick is due since " + time_text(due(slot)) +
                            ", and the worker is at work elsewhere, as often as mau.max_workers allows"};
    if (slot.extension == Extension::restoring)
        return {"waiting", "a restore of this database is in progress"};
    if (!member.figures.health[0]) return {"starting", "the worker has not ended a tick here yet"};
    return {member.figures.health, pg::readable(member.figures.reason)};
}

/// The state of this database where it has no slot.
Verdict judge_without_slot(const slots::State& worker) {
    if (RecoveryInProgress()) return {"standby", "the worker runs on the primary; ask there"};
    if (!worker.launcher) return {"off", "the launcher is not running"};
    if (!options.enabled) return {"off", "mau.worker is off"};
    if (!pg::guard([] { return serves(get_database_name(MyDatabaseId)); }))
        return {"off", "mau.databases does not name this database"};
    if (worker.is_left_out)
        return {"off", std::to_string(pg::kMaxDatabases) +
                           " other databases have mau, as many as the worker serves"};
    return {"starting", "the worker has not looked at this database yet"};
}

}  // namespace

Figures read_figures() {
    Figures figures = {};
    const pg::Rows row = figures_query.read_latest();
    if (row.empty()) return figures;
    const auto number = [&](int column) { return row.at(0, column).optional_integer().value_or(kNone); };
    strlcpy(figures.health, row.at(0, 0).string().c_str(), sizeof figures.health);
    strlcpy(figures.reason, row.at(0, 1).string().c_str(), sizeof figures.reason);
    figures.dau = number(2);
    figures.wau = number(3);
    figures.mau = number(4);
    figures.limit = number(5);
    figures.blocked = row.at(0, 6).boolean();
    figures.at = GetCurrentTimestamp();
    return figures;
}

}  // namespace mau::worker::fleet

namespace mau {
namespace {

namespace slots = worker::slots;

/// A row for each database that has a slot, and for this database in any case.
Datum fleet(FunctionCallInfo fcinfo) {
    using Cell = pg::Param;
    pg::ResultSet result(fcinfo);
    const slots::State own = slots::state(MyDatabaseId);
    if (!own.exists)
        throw Error(sqlstate::object_not_in_prerequisite_state, "mau is not in shared_preload_libraries", {},
                    "mau.fleet() reads shared memory: add mau to shared_preload_libraries and restart.");
    const bool may_see_all = pg::guard([] { return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS); });
    auto* const members = pg::guard(
        [] { return static_cast<slots::Member*>(palloc(sizeof(slots::Member) * pg::kMaxDatabases)); });
    const int count = slots::members(members);
    const TimestampTz now = GetCurrentTimestamp();
    const auto time = [](TimestampTz at) { return at ? Cell::of(TimestampTzGetDatum(at)) : Cell(); };
    const auto number = [](std::int64_t value) { return value == worker::kNone ? Cell() : Cell(value); };
    bool has_own = false;
    for (int i = 0; i < count; ++i) {
        const worker::Slot& slot = members[i].slot;
        const worker::Figures& figures = members[i].figures;
        const char* const datname = pg::guard([&] { return get_database_name(slot.database); });
        if (!datname) continue;  // dropped
        const std::string name = pg::readable(datname), error = pg::readable(slot.error);
        const bool is_own = slot.database == MyDatabaseId;
        has_own = has_own || is_own;
        if (!may_see_all && !is_own) {
            result.add({name, "<insufficient privilege>", {}, {}, {}, {}, {}, {}, {}, {}, {}, {}});
            continue;
        }
        const worker::fleet::Verdict verdict = worker::fleet::judge(own, members[i], now);
        const bool has_numbers = figures.at != 0;
        const auto known = [&](const Cell& cell) { return has_numbers ? cell : Cell(); };
        result.add({name, verdict.health, verdict.reason, time(slot.finished),
                    slot.running ? time(slot.started) : Cell(), error.empty() ? Cell() : Cell(error),
                    known(number(figures.dau)), known(number(figures.wau)), known(number(figures.mau)),
                    known(number(figures.limit)), known(figures.blocked), time(figures.at)});
    }
    if (!has_own) {
        const worker::fleet::Verdict verdict = worker::fleet::judge_without_slot(own);
        const char* const datname = pg::guard([] { return get_database_name(MyDatabaseId); });
        result.add(
            {pg::readable(datname), verdict.health, verdict.reason, {}, {}, {}, {}, {}, {}, {}, {}, {}});
    }
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_fleet, fleet);

}  // namespace mau
