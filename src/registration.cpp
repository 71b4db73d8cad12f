#include "registration.hpp"

#include "leaving.hpp"
#include "pg/values.hpp"
#include "seating.hpp"
#include "seats.hpp"
#include "seen.hpp"

namespace mau::registration {

namespace {

// An upsert draws a user number even where it only updates, so who is known is updated.
#define MAU_UPDATE_ACCOUNT                                                                 \
    " registered_at = least(u.registered_at, $2), user_type = coalesce($3, u.user_type),"  \
    " appservice_id = coalesce($4, u.appservice_id), is_guest = coalesce($5, u.is_guest)," \
    " is_deactivated = false, is_registered = true"

pg::Statement register_query("UPDATE mau.users u SET" MAU_UPDATE_ACCOUNT
                             " WHERE u.user_id OPERATOR(pg_catalog.=) $1",
                             {TEXTOID, INT8OID, TEXTOID, TEXTOID, BOOLOID});
pg::Statement register_new_query(
    "INSERT INTO mau.users AS u (user_id, registered_at, user_type, appservice_id, is_guest, is_registered)"
    " VALUES ($1, $2, $3, $4, coalesce($5, false), true) ON CONFLICT (user_id) DO UPDATE "
    "SET" MAU_UPDATE_ACCOUNT,
    {TEXTOID, INT8OID, TEXTOID, TEXTOID, BOOLOID});

#undef MAU_UPDATE_ACCOUNT

// Somebody seen before being registered was taken for a native user.
pg::Statement misplaced_query(
    "SELECT m.service, " MAU_SERVICE_OF_U
    " FROM mau.monthly_active_users m"
    " JOIN mau.users u ON u.user_id OPERATOR(pg_catalog.=) m.user_id"
    " WHERE m.user_id OPERATOR(pg_catalog.=) $1 AND m.service OPERATOR(pg_catalog.<>) (" MAU_SERVICE_OF_U ")",
    {TEXTOID});
pg::Statement move_service_query(
    "UPDATE mau.monthly_active_users m SET service = " MAU_SERVICE_OF_U
    " FROM mau.users u WHERE m.user_id OPERATOR(pg_catalog.=) $1 AND u.user_id OPERATOR(pg_catalog.=) $1"
    " AND m.service OPERATOR(pg_catalog.<>) (" MAU_SERVICE_OF_U ")",
    {TEXTOID});

pg::Statement take_over_query(
    "INSERT INTO mau.users AS u"
    " (user_id, registered_at, user_type, appservice_id, is_guest, is_deactivated, is_registered)"
    " SELECT n.user_id, n.registered_at, n.user_type, n.appservice_id, n.is_guest, n.is_deactivated, true"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6)) WITH ORDINALITY"
    "   n(user_id, registered_at, user_type, appservice_id, is_guest, is_deactivated, place)"
    " LEFT JOIN LATERAL (SELECT * FROM mau.users k WHERE k.user_id = n.user_id LIMIT 1) o ON true"  // by
                                                                                                    // index
    " WHERE o.user_id IS NULL OR (o.registered_at, o.user_type, o.appservice_id, o.is_guest, "
    "o.is_deactivated,"
    "   o.is_registered) IS DISTINCT FROM (n.registered_at, n.user_type, n.appservice_id, n.is_guest,"
    "   n.is_deactivated, true)"
    " ORDER BY n.place"
    " ON CONFLICT (user_id) DO UPDATE SET registered_at = EXCLUDED.registered_at,"
    "   user_type = EXCLUDED.user_type, appservice_id = EXCLUDED.appservice_id, is_guest = EXCLUDED.is_guest,"
    "   is_deactivated = EXCLUDED.is_deactivated, is_registered = true"
    " RETURNING u.user_id",
    {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID, BOOLARRAYOID});

pg::Statement take_over_first_query(
    "INSERT INTO mau.users"
    " (user_id, registered_at, user_type, appservice_id, is_guest, is_deactivated, is_registered)"
    " SELECT n.user_id, n.registered_at, n.user_type, n.appservice_id, n.is_guest, n.is_deactivated, true"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6))"
    "   n(user_id, registered_at, user_type, appservice_id, is_guest, is_deactivated)",
    {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID, BOOLARRAYOID});

pg::Statement misplaced_among_query(
    "SELECT m.user_id, m.service, " MAU_SERVICE_OF_U
    " FROM unnest($1) n(user_id)"
    " JOIN LATERAL (SELECT * FROM mau.monthly_active_users k WHERE k.user_id = n.user_id LIMIT 1) m ON true"
    " JOIN mau.users u ON u.user_id = n.user_id WHERE m.service <> (" MAU_SERVICE_OF_U ")",
    {TEXTARRAYOID});

pg::Statement join_reserved_query(
    "INSERT INTO mau.monthly_active_users AS m (user_id, \"timestamp\", service, renewed)"
    " SELECT u.user_id, $2, " MAU_SERVICE_OF_U
    ", $2 FROM mau.users u"
    " WHERE u.user_id OPERATOR(pg_catalog.=) $1 AND NOT " MAU_U_IS_SUPPORT
    " ON CONFLICT (user_id) DO UPDATE SET \"timestamp\" = greatest(m.\"timestamp\", EXCLUDED.\"timestamp\")"
    " RETURNING m.xmax OPERATOR(pg_catalog.=) '0'::pg_catalog.xid, m.service",  // whether the row is new
    {TEXTOID, INT8OID});

pg::Statement add_threepid_query(
    "INSERT INTO mau.user_threepids (medium, address, user_id) VALUES ($1, $2, $3)"
    " ON CONFLICT (medium, address) DO UPDATE SET user_id = EXCLUDED.user_id",
    {TEXTOID, TEXTOID, TEXTOID});

pg::Statement remove_threepid_query(
    "DELETE FROM mau.user_threepids t WHERE t.medium OPERATOR(pg_catalog.=) $1"
    " AND t.address OPERATOR(pg_catalog.=) $2 AND t.user_id OPERATOR(pg_catalog.=) $3",
    {TEXTOID, TEXTOID, TEXTOID});

pg::Statement remove_threepids_query(
    "DELETE FROM mau.user_threepids t WHERE t.user_id OPERATOR(pg_catalog.=) $1", {TEXTOID});

// As much of a user id as sync notes there: at most 80 bytes, less where a character would be cut.
pg::Statement forget_skipped_query(
    "DELETE FROM mau.source_skipped s WHERE s.row_key OPERATOR(pg_catalog.=) $1"
    " OR (pg_catalog.octet_length(s.row_key) OPERATOR(pg_catalog.>) 76 AND pg_catalog.starts_with($1, "
    "s.row_key))",
    {TEXTOID});

pg::Statement deactivate_query(
    "UPDATE mau.users u SET is_deactivated = true"
    " WHERE u.user_id OPERATOR(pg_catalog.=) $1 AND NOT u.is_deactivated",
    {TEXTOID});

// The number stays, for past totals; the person behind it goes, and the registration time is kept to the day.
pg::Statement forget_query(
    "UPDATE mau.users u SET user_id = NULL, last_seen = NULL, visited = 0,"
    " registered_at = u.registered_at OPERATOR(pg_catalog.-)"
    " (u.registered_at OPERATOR(pg_catalog.%) 86400000::pg_catalog.int8)"
    " WHERE u.user_id OPERATOR(pg_catalog.=) $1",
    {TEXTOID});

}  // namespace

namespace {

/// Moves a member's row to the service of the account. A bridge's user who becomes a native needs a seat;
/// where there is none, the row leaves the cohort.
void move_service(const World& world, std::string_view user_id, std::string_view from, std::string_view to) {
    cohort::Seating seating(world);
    const bool asks = to == "native" && !directory::is_reserved_user(world, user_id);
    if (asks && !world.settings.limit_usage_by_mau) {
        seating.take_unlimited(1);
    } else if (asks && !seating.take(user_id, pg::to_instant(GetCurrentTimestamp()), false)) {
        cohort::remove(world, std::vector<std::string_view>{user_id}, INT64_MAX);
        return seating.done(false);
    }
    const bool moved = move_service_query.write(user_id).count > 0;
    if (moved) {
        seats::add_rows(world, from, -1);
        seats::add_rows(world, to, 1);
    }
    seating.done(moved);
}

}  // namespace

void register_user(const World& world, const Report& report) {
    const seats::ToldAbout told;
    const auto write = [&report](pg::Statement& statement) {
        return statement.write(report.user_id, report.registered_at, report.user_type, report.appservice_id,
                               report.is_guest);
    };
    if (write(register_query).count == 0) write(register_new_query);
    seen::invalidate(report.user_id);
    const pg::Rows misplaced = misplaced_query.read_latest(report.user_id);
    if (misplaced.empty()) return;
    move_service(world, report.user_id, misplaced.at(0, 0).text(), misplaced.at(0, 1).text());
}

std::int64_t take_over(const World& world, const Accounts& accounts) {
    if (accounts.user_ids.empty()) return 0;
    const seats::ToldAbout told;
    const pg::Rows changed =
        take_over_query.write(accounts.user_ids, accounts.registered_at, accounts.user_types,
                              accounts.appservice_ids, accounts.guests, accounts.deactivated);
    std::vector<std::string_view> ids;
    for (std::uint64_t i = 0; i < changed.count; ++i) {
        ids.push_back(changed.at(i, 0).text());
        seen::invalidate(ids.back());
    }
    if (ids.empty()) return 0;
    const pg::Rows misplaced = misplaced_among_query.read_latest(ids);
    for (std::uint64_t i = 0; i < misplaced.count; ++i)
        move_service(world, misplaced.at(i, 0).text(), misplaced.at(i, 1).text(), misplaced.at(i, 2).text());
    return static_cast<std::int64_t>(ids.size());
}

std::int64_t take_over_first(const Accounts& accounts) {
    const seats::ToldAbout told;
    return static_cast<std::int64_t>(take_over_first_query
                                         .write(accounts.user_ids, accounts.registered_at,
                                                accounts.user_types, accounts.appservice_ids, accounts.guests,
                                                accounts.deactivated)
                                         .count);
}

bool join_reserved(const World& world, std::string_view user_id, Instant at) {
    if (!recording(world.settings)) return false;
    const seats::ToldAbout told;
    const pg::Rows joined = join_reserved_query.write(user_id, at);
    if (joined.empty()) return false;
    if (joined.at(0, 0).boolean()) seats::add_rows(world, joined.at(0, 1).text(), 1);
    return true;
}

}  // namespace mau::registration

namespace mau {
namespace {

/// A threepid among the arguments: both parts or none.
struct ThreepidArgument {
    std::string_view medium, address;
};

ThreepidArgument threepid_of(const pg::Arguments& args, int i) {
    const ThreepidArgument threepid{args.required_text(i, "medium"), args.required_text(i + 1, "address")};
    if (threepid.medium.empty() || threepid.address.empty())
        throw Error(sqlstate::invalid_parameter, "medium and address must not be empty", {},
                    "Pass 'email' and an e-mail address, or 'msisdn' and a phone number.");
    if (threepid.medium.size() > 255 || threepid.address.size() > 1024)
        throw Error(sqlstate::invalid_parameter, "medium or address is too long",
                    "They have " + std::to_string(threepid.medium.size()) + " and " +
                        std::to_string(threepid.address.size()) + " bytes.",
                    "A medium has at most 255 bytes, an address 1024.");
    return threepid;
}

void add_threepid(const ThreepidArgument& threepid, std::string_view user_id) {
    registration::add_threepid_query.write(
        threepid.medium, directory::fold_address(threepid.medium, threepid.address), user_id);
}

Datum register_user(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const registration::Report report{args.user_id(0), args.instant(1, "registered_at"),
                                      args.name(2, "user_type"), args.name(3, "appservice_id"),
                                      args.boolean(4)};
    if (args.is_null(5) != args.is_null(6))
        throw Error(sqlstate::invalid_parameter, "medium and address go together", {},
                    "Pass both, or neither.");
    std::optional<ThreepidArgument> threepid;
    if (!args.is_null(5)) threepid = threepid_of(args, 5);
    const bool joined = pg::with_spi([&] {
        const World& world = directory::world();
        registration::register_user(world, report);
        if (!threepid) return false;
        add_threepid(*threepid, report.user_id);
        return directory::is_reserved(world, threepid->medium, threepid->address) &&
               registration::join_reserved(world, report.user_id, report.registered_at);
    });
    return pg::text_datum(joined ? "joined" : "registered");
}

Datum add_threepid(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string_view user_id = args.user_id(0);
    const ThreepidArgument threepid = threepid_of(args, 1);
    pg::with_spi([&] { add_threepid(threepid, user_id); });
    return Datum(0);
}

Datum remove_threepid(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string_view user_id = args.user_id(0);
    const ThreepidArgument threepid = threepid_of(args, 1);
    const bool removed = pg::with_spi([&] {
        const std::string address = directory::fold_address(threepid.medium, threepid.address);
        return registration::remove_threepid_query.write(threepid.medium, address, user_id).count > 0;
    });
    return BoolGetDatum(removed);
}

Datum deactivate_user(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string_view user_id = args.user_id(0);
    args.instant(1);
    const bool deactivated = pg::with_spi([&] {
        const seats::ToldAbout told;
        if (registration::deactivate_query.write(user_id).count == 0) return false;
        seen::invalidate(user_id);
        registration::remove_threepids_query.write(user_id);  // as Synapse does
        const World& world = directory::world();
        if (!world.settings.count_deactivated_users) cohort::remove(world, user_id);
        return true;
    });
    return BoolGetDatum(deactivated);
}

Datum forget_user(FunctionCallInfo fcinfo) {
    const std::string_view user_id = pg::Arguments(fcinfo).user_id(0);
    const bool known = pg::with_spi([&] {
        const seats::ToldAbout told;
        const World& world = directory::world();
        const bool member = cohort::remove(world, user_id);
        registration::remove_threepids_query.write(user_id);
        registration::forget_skipped_query.write(user_id);
        return (registration::forget_query.write(user_id).count > 0) | member;
    });
    return BoolGetDatum(known);
}

Datum registered_reserved_users(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo, pg::ResultSet::Shape::column);
    pg::with_spi([&] {
        for (const std::string_view user : directory::registered_reserved_users(directory::world()))
            result.add({user});
    });
    return Datum(0);
}

Datum fold_address(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    return pg::text_datum(directory::fold_address(*args.text(0), *args.text(1)));
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

/// Tells all sessions at commit, ours at the end of the command, that the directory changed.
Datum directory_changed(FunctionCallInfo fcinfo) {
    TriggerData* const trigger = pg::trigger_of(fcinfo);
    pg::guard([&] {
        Oid const settings = get_relname_relid("settings", RelationGetNamespace(trigger->tg_relation));
        if (OidIsValid(settings)) CacheInvalidateRelcacheByRelid(settings);
    });
    seen::invalidate_settings();
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

MAU_FUNCTION(mau_register_user, register_user);
MAU_FUNCTION(mau_add_threepid, add_threepid);
MAU_FUNCTION(mau_remove_threepid, remove_threepid);
MAU_FUNCTION(mau_deactivate_user, deactivate_user);
MAU_FUNCTION(mau_forget_user, forget_user);
MAU_FUNCTION(mau_registered_reserved_users, registered_reserved_users);
MAU_FUNCTION(mau_fold_address, fold_address);
MAU_FUNCTION(mau_is_regex, is_regex);
MAU_FUNCTION(mau_directory_changed, directory_changed);
MAU_FUNCTION(mau_replace_settings, replace_settings);

}  // namespace mau
