// The SQL functions and their results: attach imports the homeserver's data, sync reads new rows (see
// reading.hpp), detach ends it.
#include "source/source.hpp"

#include "source/compare.hpp"
#include "source/reading.hpp"

#include "history/fold.hpp"
#include "history/kept.hpp"
#include "history/past.hpp"

#include "pg/values.hpp"
#include "tasks/tasks.hpp"
#include "worker/worker.hpp"

namespace mau::source {

namespace {

pg::Statement source_query(
    "SELECT kind, schema_name, attached_by, activity_until, pass_from,"
    " coalesce((extract(epoch FROM synced_at) * 1000)::bigint, 0), (visits_until - date "
    "'1970-01-01')::bigint,"
    " server_name, other_server_name"
    " FROM mau.source");
pg::Statement queries_query("SELECT q.key, q.value FROM mau.source s, jsonb_each_text(s.queries) q");
pg::Statement custom_queries_query("SELECT part, query FROM mau.custom_source");
pg::Statement attach_query(
    "INSERT INTO mau.source (kind, schema_name, attached_by, activity_until, synced_at, finds_new_by, "
    "queries)"
    " VALUES ($1, $2, current_user, $3, to_timestamp($4 / 1000.0), $5,"
    " CASE WHEN $1 = 'custom' THEN (SELECT jsonb_object_agg(c.part, c.query) FROM mau.custom_source c) END)",
    {TEXTOID, TEXTOID, INT8OID, INT8OID, TEXTOID});
pg::Statement trouble_query(
    "UPDATE mau.source SET trouble = $1, trouble_sqlstate = $2, trouble_at = coalesce(trouble_at, "
    "clock_timestamp())",
    {TEXTOID, TEXTOID});
pg::Statement without_account_query(
    "SELECT count(*),"
    "   string_agg(q.user_id, ', ' ORDER BY q.user_id COLLATE \"C\") FILTER (WHERE q.place <= 10)"
    " FROM (SELECT m.user_id, row_number() OVER (ORDER BY m.user_id COLLATE \"C\") AS place"
    "   FROM mau.monthly_active_users m LEFT JOIN mau.users u ON u.user_id = m.user_id"
    "   WHERE m.service = 'native' AND u.is_registered IS NOT TRUE) q");
pg::Statement own_usage_query(
    "WITH seen AS (SELECT greatest(m.\"timestamp\", u.last_seen) AS at FROM mau.users u"
    "   FULL JOIN mau.monthly_active_users m ON m.user_id = u.user_id),"
    " accounts AS (SELECT nullif(u.appservice_id, '') AS appservice_id, u.is_guest AS guest,"
    "   coalesce(u.registered_at > $1 - 86400000, false) AS young FROM mau.users u WHERE u.is_registered"
    "   AND u.user_id IS NOT NULL)"
    " SELECT jsonb_build_object("
    "'daily_active_users', (SELECT count(*) FROM seen s WHERE s.at > $1 - 86400000),"
    "'monthly_active_users', (SELECT count(*) FROM seen s WHERE s.at > $1 - 2592000000),"
    "'total_users', count(*), 'total_nonbridged_users', count(*) FILTER (WHERE a.appservice_id IS NULL),"
    "'daily_user_type_native', count(*) FILTER (WHERE NOT a.guest AND a.appservice_id IS NULL AND a.young),"
    "'daily_user_type_guest', count(*) FILTER (WHERE a.guest AND a.appservice_id IS NULL AND a.young),"
    "'daily_user_type_bridged', count(*) FILTER (WHERE NOT a.guest AND a.appservice_id IS NOT NULL AND "
    "a.young))"
    " || CASE WHEN $2 THEN (SELECT jsonb_object_agg('r30_users_' || r.client, r.users)"
    "   FROM mau.r30(to_timestamp($1 / 1000.0)) r) ELSE '{}' END"
    " || CASE WHEN $3 THEN (SELECT jsonb_object_agg('r30v2_users_' || r.client, r.users)"
    "   FROM mau.r30v2(to_timestamp($1 / 1000.0)) r) ELSE '{}' END"
    " FROM accounts a",
    {INT8OID, BOOLOID, BOOLOID});

// mau.tasks is not dumped, so its row of sync shows that the source was attached here and not restored from a
// dump.
pg::Statement note_attached_query(
    "UPDATE mau.tasks SET last_finished = CASE WHEN $1 THEN clock_timestamp() END WHERE task = 'sync'",
    {BOOLOID});

/// The figures of mau's own tables; without those about days that were purged.
Datum own_usage(Instant at) {
    const history::KeptDays kept;
    return own_usage_query.read(at, kept.reach(day_of(at) - 29), kept.reach(r30v2_days(at).first))
        .at(0, 0)
        .datum();
}

std::map<std::string, std::string> queries(pg::Statement& query) {
    std::map<std::string, std::string> parts;
    const pg::Rows rows = query.read_latest();
    for (std::uint64_t i = 0; i < rows.count; ++i) parts[rows.at(i, 0).string()] = rows.at(i, 1).string();
    return parts;
}

}  // namespace

std::optional<Source> attached() {
    const pg::Rows rows = source_query.read_latest();
    if (rows.empty()) return std::nullopt;
    return Source{rows.at(0, 0).string(),           rows.at(0, 1).string(),
                  rows.at(0, 2).string(),           rows.at(0, 3).optional_integer(),
                  rows.at(0, 4).optional_integer(), rows.at(0, 6).optional_integer(),
                  rows.at(0, 5).integer(),          rows.at(0, 7).optional_text(),
                  rows.at(0, 8).optional_text(),    queries(queries_query)};
}

namespace {

void report(pg::ResultSet& result, const Reading& reading) {
    result.add({"users", reading.users});
    result.add({"threepids", reading.threepids});
    result.add({"sightings", reading.sightings});
    for (int i = 0; i < kOutcomes; ++i)
        if (reading.outcomes[i] > 0) result.add({name(static_cast<Outcome>(i)), reading.outcomes[i]});
    for (const auto& obstacle : {reading.no_time_zone, reading.no_cohort, reading.no_visits})
        if (obstacle) result.add({obstacle->what, std::int64_t{0}});
    if (reading.visits > 0) {
        result.add({"visits", reading.visits});
        result.add({"new visits", reading.new_visits});
    }
    if (reading.skipped > 0) result.add({"skipped", reading.skipped});
    if (reading.compared) result.add({"differed", reading.differences});
}

void warn(const Reading::Obstacle& obstacle) {
    pg::guard([what = obstacle.what.c_str(), detail = obstacle.detail.c_str(), hint = obstacle.hint.c_str()] {
        ereport(WARNING, (errmsg("%s", what), detail[0] ? errdetail("%s", detail) : 0, errhint("%s", hint)));
    });
}

/// Reports members who have no account, where they may be something else than users.
void report_without_account(pg::ResultSet& result, const std::string& what_they_may_be) {
    const pg::Rows members = without_account_query.read_latest();
    const std::int64_t count = members.at(0, 0).integer();
    if (count == 0) return;
    result.add({"members without an account", count});
    warn({"members who have no account in the homeserver's tables: " + std::to_string(count),
          members.at(0, 1).string() + (count > 10 ? ", …" : "") +
              ": each counts as a native user, and may be " + what_they_may_be + ".",
          "If one is: INSERT INTO mau.appservices (id, sender) VALUES ('…', '@…'); DELETE FROM "
          "mau.monthly_active_users WHERE user_id = '@…';"});
}

/// Runs a task's work on the source; an error of it is undone, noted, reported and handed back.
template <class Work>
std::optional<pg::Trouble> attempt_task(const tasks::Task& task, pg::ResultSet& result, Work&& work) {
    auto trouble = pg::attempt(work);
    if (trouble) {
        task.fail(*trouble);
        result.add({"trouble", std::int64_t{1}});
    }
    return trouble;
}

Datum attach(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    if (args.is_null(0) || args.is_null(1))
        throw Error(
            sqlstate::invalid_parameter,
            args.is_null(0) ? "kind must not be NULL" : "schema must not be NULL", {},
            "Call mau.attach('synapse'), or with the schema of the tables: mau.attach('synapse', 'public').");
    Source source;
    source.kind = *args.text(0);
    source.schema = NameStr(*DatumGetName(fcinfo->args[1].value));
    source.attached_by = pg::guard([] { return GetUserNameFromId(GetUserId(), false); });
    const Instant at = args.instant(2);
    pg::ResultSet result(fcinfo);
    maker(source.kind);
    pg::guard([] { PreventCommandIfReadOnly("mau.attach()"); });
    tasks::Task("sync").wait();
    tasks::Task(history::kFoldTask).wait();
    pg::with_spi([&] {
        if (const auto other = attached())
            throw Error(sqlstate::object_not_in_prerequisite_state, "mau is already attached",
                        "It reads the tables of " + other->kind + " in schema " + other->schema + ".",
                        "Call mau.detach() first; the numbers are kept.");
        const auto config = config::config();
        if (source.kind == "custom") {
            source.queries = queries(custom_queries_query);
            check_queries(homeserver_of(*config, source));
        }
        Reading reading(*config, source);
        reading.check_there("Pass the schema that holds the homeserver's tables, such as public.");
        reading.check_rights();
        reading.begin();
        attach_query.write(source.kind, source.schema, std::nullopt,
                           std::min(at, pg::to_instant(GetCurrentTimestamp())), reading.finds_new_by());
        reading.import(at);
        reading.done();
        note_attached_query.write(true);
        report(result, reading);
        for (const auto& obstacle : {reading.no_time_zone, reading.no_cohort, reading.no_visits})
            if (obstacle && !obstacle->hint.empty()) warn(*obstacle);
        if (!reading.contract().without_account.empty())
            report_without_account(result, reading.contract().without_account);
    });
    worker::wake_at_commit();
    return Datum(0);
}

Datum sync(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Instant at = args.instant(0);
    const std::int64_t max_rows = args.max_rows(1);
    pg::guard([] { PreventCommandIfReadOnly("mau.sync()"); });
    return tasks::run(fcinfo, "sync", [&](const tasks::Task& task, pg::ResultSet& result) {
        const std::optional<Source> source = attached();
        if (!source) return result.add({"not attached", std::int64_t{0}});
        const auto config = config::config();
        std::optional<Reading> reading;
        bool complete = false;
        const auto trouble = attempt_task(task, result, [&] {
            reading.emplace(*config, *source);
            reading->begin();
            complete = reading->sync(at, max_rows);
            reading->done();
        });
        if (trouble) {
            trouble_query.write(trouble->message, trouble->state);
            return warn({"mau could not read the homeserver's tables: " + trouble->message,
                         "Nothing is lost; the next sync goes on where this one began.",
                         trouble->hint.empty() ? "See mau.status." : trouble->hint});
        }
        task.end(reading->users + reading->threepids + reading->sightings + reading->visits);
        if (reading->compared) tasks::Task("reconcile").end(reading->differences);
        report(result, *reading);
        if (!complete) result.add({"more", std::int64_t{1}});
    });
}

Datum reconcile(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::guard([] { PreventCommandIfReadOnly("mau.reconcile()"); });
    return tasks::run(fcinfo, "reconcile", [&](const tasks::Task& task, pg::ResultSet& result) {
        const std::optional<Source> source = attached();
        if (!source) {
            task.end(0);
            return result.add({"nothing to compare with", std::int64_t{0}});
        }
        const auto config = config::config();
        std::optional<Reading> reading;
        const auto trouble = attempt_task(task, result, [&] {
            reading.emplace(*config, *source);
            reading->begin();
            reading->reconcile(at);
            reading->done();
        });
        if (trouble)
            return warn({"mau could not compare with the homeserver's tables: " + trouble->message,
                         {},
                         "See mau.tasks."});
        task.end(reading->differences);
        for (int i = 0; i < kOutcomes; ++i)
            if (reading->outcomes[i] > 0) result.add({name(static_cast<Outcome>(i)), reading->outcomes[i]});
        result.add({"differed", reading->differences});
    });
}

/// Reads the figures of both sides. Errors: 22023 for an instant before the last sync: only the last sighting
/// of each user is known.
std::vector<Comparison> compare_figures(const Source& source, Instant at) {
    if (at < source.synced_at)
        throw Error(sqlstate::invalid_parameter, "at must not be before the last sync",
                    "Both sides know the last sighting of each user only.",
                    "Leave the argument out to mean now(), or see mau.daily_series() for past days.");
    const auto config = config::config();
    Reading reading(*config, source);
    reading.begin();
    reading.parse_sightings();
    std::vector<Comparison> figures = compare(reading, at);
    reading.done();
    return figures;
}

Datum compare_with_source(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const std::optional<Source> source = attached();
        if (!source) return;
        for (const Comparison& one : compare_figures(*source, at))
            result.add({one.figure, one.ours, one.theirs, one.unexplained, one.reason});
    });
    return Datum(0);
}

/// Compares, and stores the result in mau.comparison.
Datum keep_comparison(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::guard([] { PreventCommandIfReadOnly("mau.keep_comparison()"); });
    return tasks::run(fcinfo, "compare", [&](const tasks::Task& task, pg::ResultSet& result) {
        static pg::Statement forget(MAU_DELETE("mau.comparison", "true"));
        static pg::Statement keep(
            "INSERT INTO mau.comparison (figure, at, mau, server, unexplained, reason)"
            " VALUES ($1, to_timestamp($2 / 1000.0), $3, $4, $5, $6)",
            {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID});
        const std::optional<Source> source = attached();
        if (!source) return result.add({"not attached", std::int64_t{0}});
        std::vector<Comparison> figures;
        if (attempt_task(task, result, [&] { figures = compare_figures(*source, at); })) return;
        pg::delete_all(forget, "mau.comparison");
        for (const Comparison& one : figures)
            if (keep.write(one.figure, at, one.ours, one.theirs, one.unexplained, one.reason).count == 0)
                throw not_written("mau.comparison");
        const auto rows = static_cast<std::int64_t>(figures.size());
        task.end(rows);
        result.add({"compared", rows});
    });
}

Datum detach(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo);
    for (const char* task : {"sync", "compare"}) tasks::Task(task).wait();
    const std::int64_t detached = pg::with_spi([] {
        static pg::Statement tables(MAU_DELETE("mau.source_tables", "true")),
            skipped(MAU_DELETE("mau.source_skipped", "true")),
            comparison(MAU_DELETE("mau.comparison", "true")), source(MAU_DELETE("mau.source", "true"));
        pg::delete_all(tables, "mau.source_tables");
        pg::delete_all(skipped, "mau.source_skipped");
        pg::delete_all(comparison, "mau.comparison");
        note_attached_query.write(false);
        return pg::delete_all(source, "mau.source");
    });
    result.add({"detached", detached});
    return Datum(0);
}

Datum usage_statistics(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    MemoryContext const caller = CurrentMemoryContext;
    return pg::with_spi([&] {
        past::refuse(at, "Ask mau.active_users, mau.r30 and mau.r30v2 for past days.",
                     past::Whose::everybody);
        const std::optional<Source> source = attached();
        Datum figures;
        if (source) {
            const auto config = config::config();
            Reading reading(*config, *source);
            if (reading.has_usage()) {
                reading.begin();
                figures = reading.usage(at);
                reading.done();
            } else {
                figures = own_usage(at);
            }
        } else
            figures = own_usage(at);
        return pg::guard([&] {
            MemoryContext const spi = MemoryContextSwitchTo(caller);
            Datum const copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(figures));
            MemoryContextSwitchTo(spi);
            return copy;
        });
    });
}

/// Whether a column of mau.source has the progress of the reading, not its tables or its role.
bool is_progress(const char* column) {
    for (const char* progress :
         {"activity_until", "pass_from", "visits_until", "synced_at", "finds_new_by", "server_name",
          "other_server_name", "trouble", "trouble_sqlstate", "trouble_at"})
        if (strcmp(column, progress) == 0) return true;
    return false;
}

/// The worker reads with the rights of attached_by: a role may not enter another role there, nor redirect a
/// reading that another role began. Any role that may update the table may note progress.
Datum check_source(FunctionCallInfo fcinfo) {
    TriggerData* const trigger = pg::trigger_of(fcinfo);
    const bool update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
    HeapTuple const row = update ? trigger->tg_newtuple : trigger->tg_trigtuple;
    pg::guard([&] {
        if (superuser()) return;
        TupleDesc const shape = RelationGetDescr(trigger->tg_relation);
        auto value = [&](HeapTuple tuple, int column, bool* null) {
            return heap_getattr(tuple, column, shape, null);
        };
        bool moved = !update;
        for (int column = 1; column <= shape->natts && !moved; ++column) {
            Form_pg_attribute const attribute = TupleDescAttr(shape, column - 1);
            if (attribute->attisdropped || is_progress(NameStr(attribute->attname))) continue;
            bool was_null = false, is_null = false;
            Datum const was = value(trigger->tg_trigtuple, column, &was_null);
            Datum const is = value(row, column, &is_null);
            moved = was_null != is_null ||
                    (!is_null && !datum_image_eq(was, is, attribute->attbyval, attribute->attlen));
        }
        bool null = false;
        Datum const name = value(row, SPI_fnumber(shape, "attached_by"), &null);
        if (moved && (null || strcmp(TextDatumGetCString(name), GetUserNameFromId(GetUserId(), false)) != 0))
            ereport(ERROR,
                    (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("attached_by must be the current role"),
                     errhint("Call mau.detach() and mau.attach() as the role whose rights are to be used.")));
    });
    return PointerGetDatum(row);
}

}  // namespace

MAU_FUNCTION(mau_attach, attach);
MAU_FUNCTION(mau_sync, sync);
MAU_FUNCTION(mau_reconcile, reconcile);
MAU_FUNCTION(mau_detach, detach);
MAU_FUNCTION(mau_compare, compare_with_source);
MAU_FUNCTION(mau_keep_comparison, keep_comparison);
MAU_FUNCTION(mau_usage_statistics, usage_statistics);
MAU_FUNCTION(mau_check_source, check_source);

}  // namespace mau::source
