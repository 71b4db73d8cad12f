// The SQL functions of the cohort.
#include "history/questions.hpp"

#include "cohort/cohort.hpp"

#include <algorithm>

#include "cohort/alert.hpp"
#include "history/past.hpp"
#include "pg/values.hpp"
#include "tasks/tasks.hpp"

namespace mau {
namespace {

Datum monthly_active_count(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const std::int64_t users = pg::with_spi([&] {
        past::refuse(at, "Ask mau.active_users('30 days', at), or look into mau.snapshots.");
        return cohort::count(*config::config(), at);
    });
    return Int64GetDatum(users);
}

Datum monthly_active_count_by_service(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::ResultSet result(fcinfo);
    const auto services = pg::with_spi([&] {
        past::refuse(at, "Ask mau.active_users('30 days', at, service), or look into mau.snapshots.");
        return cohort::count_by_service(at);
    });
    for (const auto& [service, users] : services) result.add({service, users});
    return Datum(0);
}

Datum monthly_active_count_by_host(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::ResultSet result(fcinfo);
    const auto hosts = pg::with_spi([&] {
        past::refuse(at, "Ask mau.active_users('30 days', at), which counts all hosts together.");
        return cohort::count_by_host(at);
    });
    for (const auto& [host, users] : hosts) result.add({host, users});
    return Datum(0);
}

Datum host_of(FunctionCallInfo fcinfo) {
    return pg::text_datum(mau::host_of(*pg::Arguments(fcinfo).text(0)));
}

/// The length of a period in milliseconds; a month is 30 days.
Instant period_of(FunctionCallInfo fcinfo, int i) {
    if (fcinfo->args[i].isnull)
        throw Error(sqlstate::invalid_parameter, "period must not be NULL", {},
                    "Leave the argument out to mean 30 days.");
    const Interval period = *DatumGetIntervalP(fcinfo->args[i].value);
    const Instant length = period.time / 1000 + (Instant{period.day} + Instant{period.month} * 30) * kDay;
    if (length <= 0)
        throw Error(sqlstate::invalid_parameter, "period must be positive",
                    "It is " + std::to_string(length) + " ms.", "Pass an interval such as '7 days'.");
    return length;
}

Datum active_users(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Instant at = args.instant(1);
    const Instant length = period_of(fcinfo, 0);
    const auto service = args.text(2);
    const int min_days = args.is_null(3) ? 1 : DatumGetInt32(fcinfo->args[3].value);
    if (min_days < 1)
        throw Error(sqlstate::invalid_parameter, "min_days must be positive",
                    "It is " + std::to_string(min_days) + ".", "Pass 1 for everybody who was active.");
    const std::int64_t users = pg::with_spi([&] {
        if (min_days == 1 && length <= kWindow && !past::is_past(at))
            return cohort::active(length, at, service);
        history::Question question;
        if (service) question.service = std::string(*service);
        const Day last = day_of(at);
        const auto days = static_cast<Day>(std::min<Instant>((length + kDay - 1) / kDay, kLastDay));
        return history::active(*config::config(), question, {last - days + 1, last},
                               static_cast<std::size_t>(min_days));
    });
    return Int64GetDatum(users);
}

Datum active_users_by_host(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Instant at = args.instant(1);
    const Instant length = period_of(fcinfo, 0);
    pg::ResultSet result(fcinfo);
    const auto hosts = pg::with_spi([&] {
        past::refuse(at, "Ask mau.active_users(period, at), which counts all hosts together.");
        return cohort::active_by_host(length, at, args.text(2));
    });
    for (const auto& [host, users] : hosts) result.add({host, users});
    return Datum(0);
}

Datum reap(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Instant at = args.instant(0);
    const std::int64_t max_rows = args.max_rows(1);
    return tasks::run(fcinfo, "reap", [&](const tasks::Task& task, pg::ResultSet& result) {
        const auto config = config::config();
        const cohort::Reaped reaped = cohort::reap(*config, at, max_rows);
        if (!past::is_past(at)) cohort::look_at_limit(*config, at, cohort::AlertCause::task);
        task.end(reaped.seated + reaped.expired + reaped.deactivated + reaped.over_limit, at);
        result.add({"seated", reaped.seated});
        result.add({"expired", reaped.expired});
        result.add({"deactivated", reaped.deactivated});
        result.add({"over limit", reaped.over_limit});
    });
}

/// Sets `renewed` to "timestamp" if it is later: in rows that are written by hand.
Datum keep_renewed(FunctionCallInfo fcinfo) {
    TriggerData* const trigger = pg::trigger_of(fcinfo);
    const bool on_cohort =
        std::string_view(RelationGetRelationName(trigger->tg_relation)) == "monthly_active_users";
    if (!on_cohort || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
        TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
        throw Error(sqlstate::trigger_protocol_violated,
                    "mau.keep_renewed() is for rows written to mau.monthly_active_users", {},
                    "Drop that trigger.");
    return pg::guard([&] {
        HeapTuple const row =
            TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? trigger->tg_trigtuple : trigger->tg_newtuple;
        TupleDesc const shape = RelationGetDescr(trigger->tg_relation);
        bool null = false;
        int column = cohort::renewed + 1;
        Datum seen = heap_getattr(row, cohort::timestamp + 1, shape, &null);
        return PointerGetDatum(null ? row : heap_modify_tuple_by_cols(row, shape, 1, &column, &seen, &null));
    });
}

}  // namespace

MAU_FUNCTION(mau_keep_renewed, keep_renewed);
MAU_FUNCTION(mau_monthly_active_count, monthly_active_count);
MAU_FUNCTION(mau_monthly_active_count_by_service, monthly_active_count_by_service);
MAU_FUNCTION(mau_monthly_active_count_by_host, monthly_active_count_by_host);
MAU_FUNCTION(mau_host_of, host_of);
MAU_FUNCTION(mau_active_users, active_users);
MAU_FUNCTION(mau_active_users_by_host, active_users_by_host);
MAU_FUNCTION(mau_reap, reap);

}  // namespace mau
