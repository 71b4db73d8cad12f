// The SQL functions and triggers of settings, reserved threepids and appservices.
#include "config/config.hpp"

#include "cache/cache.hpp"
#include "pg/locks.hpp"
#include "pg/plain.hpp"
#include "pg/values.hpp"

namespace mau {
namespace {

Datum registered_reserved_users(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo, pg::ResultSet::Shape::column);
    pg::with_spi([&] {
        for (const std::string_view user : config::reserved_users_of_statement()) result.add({user});
    });
    return Datum(0);
}

Datum fold_address(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    return pg::text_datum(config::fold_address(*args.text(0), *args.text(1)));
}

Datum is_regex(FunctionCallInfo fcinfo) {
    if (fcinfo->args[0].isnull) return BoolGetDatum(true);
    int count = 0;
    Datum* values = nullptr;
    bool* nulls = nullptr;
    pg::guard([&] {
        deconstruct_array(DatumGetArrayTypeP(fcinfo->args[0].value), TEXTOID, -1, false, TYPALIGN_INT,
                          &values, &nulls, &count);
    });
    for (int i = 0; i < count; ++i) {
        if (nulls[i])
            throw Error(sqlstate::invalid_regular_expression, "a namespace must not be NULL", {},
                        "Leave the element out.");
        try {
            pg::guard(
                [&] { RE_compile_and_cache(DatumGetTextPP(values[i]), REG_ADVANCED, C_COLLATION_OID); });
        } catch (const pg::BackendError& error) {
            if (error.data()->sqlerrcode != ERRCODE_INVALID_REGULAR_EXPRESSION) throw;
            const char* const pattern = pg::guard([&] { return TextDatumGetCString(values[i]); });
            throw Error(sqlstate::invalid_regular_expression, error.what(),
                        "Element " + std::to_string(i + 1) + " is \"" + pattern + "\".",
                        "Pass regular expressions in PostgreSQL's advanced flavour.");
        }
    }
    return BoolGetDatum(true);
}

/// All tables of the extension's script.
constexpr const char* kTables[] = {"active_days",
                                   "appservices",
                                   "comparison",
                                   "custom_source",
                                   "deferred_calls",
                                   "limit_state",
                                   "monthly_active_users",
                                   "reserved_threepids",
                                   "settings",
                                   "snapshots",
                                   "source",
                                   "source_skipped",
                                   "source_tables",
                                   "tasks",
                                   "user_threepids",
                                   "users",
                                   "visits",
                                   "worker_pause"};

/// Returns why a table of ours is not plain, or cannot be examined; nulls where neither is known. Does not
/// wait for a lock.
pg::NotPlain examine(const char* name) {
    const Oid table = pg::guard([&] { return get_relname_relid(name, get_namespace_oid("mau", true)); });
    pg::NotPlain found;
    const auto look = [&] {
        if (!pg::try_table_lock(table, AccessShareLock)) return;
        found = pg::guard([&]() -> pg::NotPlain {
            Relation const relation = try_relation_open(table, NoLock);
            if (!relation) return {};
            const pg::NotPlain answer = pg::why_not_plain(relation);
            relation_close(relation, AccessShareLock);
            return answer;
        });
    };
    std::optional<pg::Trouble> trouble;
    if (IsInParallelMode()) {  // a subtransaction is not allowed there
        look();
    } else {
        trouble = pg::attempt(look);
    }
    if (!trouble) return found;
    return pg::guard([message = trouble->message.c_str()]() -> pg::NotPlain {
        return {psprintf("cannot be read: %s", message), "Correct that."};
    });
}

Datum unsupported_tables(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo);
    for (const char* const name : kTables)
        if (const pg::NotPlain found = examine(name); found.reason)
            result.add({std::string("mau.") + name, found.reason, found.remedy});
    return Datum(0);
}

/// Invalidates the configuration: in all other sessions at commit, in this one at the end of the command.
Datum config_changed(FunctionCallInfo fcinfo) {
    TriggerData* const trigger = pg::trigger_of(fcinfo);
    pg::guard([&] {
        Oid const settings = get_relname_relid("settings", RelationGetNamespace(trigger->tg_relation));
        if (OidIsValid(settings)) CacheInvalidateRelcacheByRelid(settings);
    });
    // No session has read a table that CREATE EXTENSION has just created, so it may be prepared.
    if (!creating_extension || trigger->tg_relation->rd_createSubid == InvalidSubTransactionId)
        cache::invalidate_settings();
    return PointerGetDatum(nullptr);
}

Datum replace_settings(FunctionCallInfo fcinfo) {
    TriggerData* const trigger = pg::trigger_of(fcinfo);
    Oid const settings =
        pg::guard([] { return get_relname_relid("settings", get_namespace_oid("mau", true)); });
    if (RelationGetRelid(trigger->tg_relation) != settings || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
        !TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
        throw Error(sqlstate::trigger_protocol_violated,
                    "mau.replace_settings() is for rows inserted into mau.settings", {},
                    "Drop that trigger.");
    pg::with_spi([] {
        static pg::Statement query("DELETE FROM mau.settings");
        query.write();
    });
    return PointerGetDatum(trigger->tg_trigtuple);
}

}  // namespace

MAU_FUNCTION(mau_registered_reserved_users, registered_reserved_users);
MAU_FUNCTION(mau_fold_address, fold_address);
MAU_FUNCTION(mau_is_regex, is_regex);
MAU_FUNCTION(mau_unsupported_tables, unsupported_tables);
MAU_FUNCTION(mau_config_changed, config_changed);
MAU_FUNCTION(mau_replace_settings, replace_settings);

}  // namespace mau
