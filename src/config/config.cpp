#include "config/config.hpp"

#include <algorithm>
#include <tuple>

#include "pg/locks.hpp"
#include "pg/plain.hpp"
#include "cache/cache.hpp"

namespace mau {

const Appservice* Config::appservice(std::string_view id) const {
    for (const Appservice& service : appservices)
        if (service.id == id) return &service;
    return nullptr;
}

namespace config {

namespace {

std::shared_ptr<const Config> cached;  // the one that was loaded last
std::uint64_t generation = 1;          // raised by every invalidation that concerns us
std::uint64_t cached_generation = 0;

void on_relcache_invalidation(Datum, Oid relation) {
    if (!cached || relation == InvalidOid || relation == cached->settings_table ||
        relation == cached->reserved_table || relation == cached->appservices_table ||
        relation == cached->users_table || relation == cached->users_index ||
        relation == cached->users_sequence || relation == cached->cohort_table ||
        relation == cached->cohort_index || relation == cached->threepids_table ||
        relation == cached->visits_table || relation == cached->days_table) {
        ++generation;
        cache::suspect();
    }
}

std::optional<std::string> text_or_nothing(const pg::Field& field) {
    const auto text = field.optional_text();
    return text && !text->empty() ? text : std::nullopt;
}

Oid relation_oid(const char* name) {
    return pg::guard([&] {
        Oid const schema = get_namespace_oid("mau", true);
        Oid const relation = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
        if (!OidIsValid(relation))
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("mau's table \"%s\" is missing", name),
                            errhint("Install the extension with CREATE EXTENSION mau.")));
        return relation;
    });
}

/// Raises 55000 if a table that the configuration was read from is not plain, because then its triggers may
/// not tell of changes. The statement that read it has locked it.
void check_plain(Oid table) {
    pg::guard([&] { table_close(pg::open_plain(table, AccessShareLock), NoLock); });
}

/// One of our trigger functions; InvalidOid where it does not exist.
Oid trigger_function(const char* name) {
    return pg::guard([&] {
        List* const called = list_make2(makeString(pstrdup("mau")), makeString(pstrdup(name)));
        return LookupFuncName(called, 0, nullptr, true);
    });
}

pg::Statement settings_query(
    "SELECT limit_usage_by_mau, max_mau_value::int8, mau_stats_only, mau_trial_days::int8,"
    " track_appservice_user_ips, hs_disabled, count_deactivated_users,"
    " int8(extract(epoch FROM last_seen_granularity) * 1000),"
    " admin_contact, hs_disabled_message, server_notices_mxid, server_name, count_locked_users,"
    " mau_limit_alerting, limit_warning_percent::int8"
    " FROM mau.settings");
pg::Statement reserved_query("SELECT medium, address FROM mau.reserved_threepids ORDER BY position");
pg::Statement appservices_query(
    "SELECT a.id, a.trial_days::int8, a.sender, r.regex FROM mau.appservices a"
    " LEFT JOIN LATERAL unnest(a.exclusive_user_regexes) WITH ORDINALITY r(regex, n) ON true"
    " ORDER BY a.id, r.n");

// Returns the versions of the cohort's triggers ($1), whether these triggers see every write, and the
// versions of the triggers on all tables that the cache depends on. A trigger that was disabled and enabled
// again has another version.
#define MAU_VERSIONS "string_agg(format('%s %s', t.oid, t.xmin), ',' ORDER BY t.oid)"
pg::Statement triggers_query("SELECT " MAU_VERSIONS
                             " FILTER (WHERE t.tgrelid = $1::oid),"
                             " coalesce(bool_or(t.tgname = 'changed' AND t.tgenabled = 'A')"
                             "  FILTER (WHERE t.tgrelid = $1::oid), false)"
                             " AND coalesce(bool_or(t.tgname = 'replicated' AND t.tgenabled = 'R')"
                             "  FILTER (WHERE t.tgrelid = $1::oid), false), " MAU_VERSIONS
                             " FROM pg_trigger t WHERE t.tgrelid = ANY ($2::oid[])",
                             {INT8OID, INT8ARRAYOID});
#undef MAU_VERSIONS

void load_settings(Settings& s) {
    const pg::Rows rows = settings_query.read_latest();
    if (rows.empty()) return;  // an admin who deleted the row gets the defaults
    s.limit_usage_by_mau = rows.at(0, 0).boolean();
    s.max_mau_value = rows.at(0, 1).integer();
    s.mau_stats_only = rows.at(0, 2).boolean();
    s.mau_trial_days = rows.at(0, 3).integer();
    s.track_appservice_user_ips = rows.at(0, 4).boolean();
    s.hs_disabled = rows.at(0, 5).boolean();
    s.count_deactivated_users = rows.at(0, 6).boolean();
    s.last_seen_granularity = rows.at(0, 7).integer();
    s.admin_contact = rows.at(0, 8).optional_text();
    s.hs_disabled_message = rows.at(0, 9).optional_text();
    s.server_notices_mxid = text_or_nothing(rows.at(0, 10));
    s.server_name = text_or_nothing(rows.at(0, 11));
    s.count_locked_users = rows.at(0, 12).boolean();
    s.mau_limit_alerting = rows.at(0, 13).boolean();
    s.limit_warning_percent = rows.at(0, 14).integer();
}

std::shared_ptr<const Config> load() {
    const auto loaded = std::make_shared<Config>();
    Config& config = *loaded;
    config.generation = cache::settings_generation();
    config.settings_table = relation_oid("settings");
    config.reserved_table = relation_oid("reserved_threepids");
    config.appservices_table = relation_oid("appservices");
    config.users_table = relation_oid("users");
    config.users_index = pg::usable_index(kUsersIndex, config.users_table, true);
    config.users_sequence = relation_oid("users_user_no_seq");
    config.cohort_table = relation_oid("monthly_active_users");
    config.cohort_index = pg::usable_index(kCohortIndex, config.cohort_table, true);
    config.cohort_by_time = pg::usable_index("monthly_active_users_renewed", config.cohort_table);
    config.threepids_table = relation_oid("user_threepids");
    config.visits_table = relation_oid("visits");
    config.days_table = relation_oid("active_days");
    config.on_users.triggers[0] = trigger_function("users_changed");
    config.on_cohort.triggers[0] = trigger_function("cohort_changed");
    config.on_cohort.triggers[1] = trigger_function("keep_renewed");
    // As many as the install script puts on the tables.
    config.on_users.checks = 8;
    config.on_cohort.checks = 5;
    config.on_users.updated[0] = users::last_seen;
    config.on_users.updated[1] = users::visited;
    const std::vector<std::int64_t> watched{config.cohort_table,      config.users_table,
                                            config.settings_table,    config.reserved_table,
                                            config.appservices_table, config.threepids_table};
    const pg::Rows triggers = triggers_query.read_latest(std::int64_t{config.cohort_table}, watched);
    config.cohort_version = pg::hash(triggers.at(0, 0).text());
    config.cohort_is_watched = triggers.at(0, 1).boolean();
    cache::trust(pg::hash(triggers.at(0, 2).text()));

    load_settings(config.settings);
    const pg::Rows reserved = reserved_query.read_latest();
    for (std::uint64_t i = 0; i < reserved.count; ++i)
        config.reserved.push_back(
            {reserved.at(i, 0).string(), fold_address(reserved.at(i, 0).text(), reserved.at(i, 1).text())});
    const pg::Rows appservices = appservices_query.read_latest();
    for (Oid const table : {config.settings_table, config.reserved_table, config.appservices_table})
        check_plain(table);
    for (std::uint64_t i = 0; i < appservices.count; ++i) {
        if (config.appservices.empty() || config.appservices.back().id != appservices.at(i, 0).text())
            config.appservices.push_back({appservices.at(i, 0).string(),
                                          appservices.at(i, 1).optional_integer(),
                                          appservices.at(i, 2).optional_text(),
                                          {}});
        if (!appservices.at(i, 3).is_null())
            config.appservices.back().exclusive_user_regexes.push_back(appservices.at(i, 3).string());
    }
    return loaded;
}

/// Whether `id` matches `pattern` from its first character on, as Python's re.match does for Synapse. (The
/// leftmost match is asked where it begins: a pattern cannot be anchored from outside, it may begin with
/// options.)
bool matches(const std::string& pattern, std::string_view id) {
    return pg::guard([&, text = pattern.c_str()] {
        regmatch_t match[1];
        return RE_compile_and_execute(cstring_to_text(text), const_cast<char*>(id.data()),
                                      static_cast<int>(id.size()), REG_ADVANCED, C_COLLATION_OID, 1, match) &&
               match[0].rm_so == 0;
    });
}

/// The appservice to which an id belongs that was never registered.
const Appservice* owner_of_unregistered(const Config& config, std::string_view user_id) {
    for (const Appservice& service : config.appservices)
        if (service.sender == user_id) return &service;
    for (const Appservice& service : config.appservices)
        for (const std::string& pattern : service.exclusive_user_regexes)
            if (matches(pattern, user_id)) return &service;
    return nullptr;
}

/// The first `max_mau_value` reserved threepids as two parallel arrays; none without a limit, as the
/// homeserver ignores that number then.
struct Seated {
    std::vector<std::string_view> mediums, addresses;
    explicit Seated(const Config& config) {
        const auto limit =
            static_cast<std::size_t>(config.settings.limit_usage_by_mau ? config.settings.max_mau_value : 0);
        for (const Threepid& threepid : config.reserved) {
            if (mediums.size() == limit) break;
            mediums.push_back(threepid.medium);
            addresses.push_back(threepid.address);
        }
    }
};

pg::Statement reserved_users_query(
    "SELECT DISTINCT t.user_id FROM ROWS FROM (unnest($1), unnest($2)) r(medium, address)"
    " JOIN mau.user_threepids t ON t.medium = r.medium AND t.address = r.address"
    " LEFT JOIN mau.users u ON u.user_id = t.user_id"
    " WHERE u.user_type IS NULL OR u.user_type <> 'support' ORDER BY 1",
    {TEXTARRAYOID, TEXTARRAYOID});
// The same from the tables alone. Most servers have none, which takes a look at an empty table.
pg::Statement any_reserved_query("SELECT EXISTS (SELECT 1 FROM mau.reserved_threepids)");
pg::Statement reserved_users_of_statement_query(
    "SELECT DISTINCT t.user_id FROM"
    " (SELECT r.medium, mau.fold_address(r.medium, r.address) AS address FROM mau.reserved_threepids r"
    "  ORDER BY r.position LIMIT (SELECT coalesce(max(s.max_mau_value), 0) FROM mau.settings s"
    "   WHERE s.limit_usage_by_mau)) r"
    " JOIN mau.user_threepids t ON t.medium = r.medium AND t.address = r.address"
    " LEFT JOIN mau.users u ON u.user_id = t.user_id"
    " WHERE u.user_type IS NULL OR u.user_type <> 'support' ORDER BY 1");
pg::Statement reserved_user_query(
    "SELECT 1 FROM mau.user_threepids t JOIN ROWS FROM (unnest($1), unnest($2)) r(medium, address)"
    " ON t.medium = r.medium AND t.address = r.address"
    " WHERE t.user_id = $3 AND NOT EXISTS (SELECT 1 FROM mau.users u"
    "  WHERE u.user_id = $3 AND u.user_type = 'support') LIMIT 1",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTOID});

}  // namespace

void init() {
    pg::guard([] { CacheRegisterRelcacheCallback(on_relcache_invalidation, 0); });
}

namespace {

/// PostgreSQL's invalidation message of a change may arrive after the settings' generation was raised.
bool is_current() {
    pg::guard([] { AcceptInvalidationMessages(); });
    return cached && cached_generation == generation && cached->generation == cache::settings_generation();
}

}  // namespace

std::shared_ptr<const Config> try_config() {
    if (!is_current())
        for (const char* const table : {"settings", "reserved_threepids", "appservices"})
            if (!pg::try_read_lock(relation_oid(table))) return nullptr;
    return config();
}

bool is_latest(const Config& config) {
    if (cached.get() == &config && cached_generation == generation) return true;
    const auto relations = [](const Config& w) {
        return std::tie(w.users_table, w.users_index, w.users_sequence, w.cohort_table, w.cohort_index,
                        w.cohort_by_time, w.threepids_table, w.visits_table, w.cohort_version,
                        w.cohort_is_watched);
    };
    const auto fresh = try_config();
    return fresh && relations(*fresh) == relations(config);
}

std::shared_ptr<const Config> config() {
    if (is_current()) return cached;
    cached = nullptr;  // until the load has ended every invalidation counts as one of ours
    const std::uint64_t before = generation;
    std::shared_ptr<const Config> loaded = load();
    cached_generation = before;  // a change that came in meanwhile makes the next call load again
    return cached = std::move(loaded);
}

Account account(const Config& config, std::string_view user_id, const pg::Found& row) {
    Account account;
    if (row.exists) {
        account.registered = row.boolean(users::is_registered);
        if (!row.is_null(users::registered_at)) account.registered_at = row.integer(users::registered_at);
        account.guest = row.boolean(users::is_guest);
        account.support = row.text(users::user_type) == "support";
        account.deactivated = row.boolean(users::is_deactivated);
        account.locked = row.boolean(users::is_locked);
        account.appservice = row.text(users::appservice_id);
    }
    const Appservice* service =
        account.registered ? config.appservice(account.appservice) : owner_of_unregistered(config, user_id);
    if (service) {
        if (!account.registered) account.appservice = service->id;
        account.appservice_trial_days = service->trial_days;
    }
    return account;
}

/// Lower case alone is not enough: straße and STRASSE are one address, and so are the two small sigmas. Texts
/// that are equal in capitals are equal, as in Unicode's case folding, by which Synapse stores addresses.
std::string fold_address(std::string_view medium, std::string_view address) {
    if (medium != "email") return std::string(address);
    const bool ascii = std::all_of(address.begin(), address.end(), [](unsigned char c) { return c < 0x80; });
    const char* folded = pg::guard([&]() -> const char* {
        Oid collation = C_COLLATION_OID;
        if (!ascii && GetDatabaseEncoding() == PG_UTF8) {
            Oid const unicode = get_collation_oid(
                list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup("und-x-icu"))), true);
            if (OidIsValid(unicode)) collation = unicode;
        }
        const char* const lower = str_tolower(address.data(), address.size(), collation);
        if (collation == C_COLLATION_OID) return lower;
        const char* const upper = str_toupper(lower, std::strlen(lower), collation);
        return str_tolower(upper, std::strlen(upper), collation);
    });
    return folded;
}

bool is_reserved(const Config& config, std::string_view medium, std::string_view address) {
    if (config.reserved.empty()) return false;
    const std::string folded = fold_address(medium, address);
    for (const Threepid& threepid : config.reserved)
        if (threepid.medium == medium && threepid.address == folded) return true;
    return false;
}

std::vector<std::string_view> registered_reserved_users(const Config& config) {
    std::vector<std::string_view> users;
    const Seated seated(config);
    if (seated.mediums.empty()) return users;
    const pg::Rows rows = reserved_users_query.read_latest(seated.mediums, seated.addresses);
    for (std::uint64_t i = 0; i < rows.count; ++i) users.push_back(rows.at(i, 0).text());
    return users;
}

std::vector<std::string_view> reserved_users_of_statement() {
    std::vector<std::string_view> users;
    if (!any_reserved_query.read().at(0, 0).boolean()) return users;
    const pg::Rows rows = reserved_users_of_statement_query.read();
    for (std::uint64_t i = 0; i < rows.count; ++i) users.push_back(rows.at(i, 0).text());
    return users;
}

bool is_reserved_user(const Config& config, std::string_view user_id) {
    const Seated seated(config);
    if (seated.mediums.empty()) return false;
    return !reserved_user_query.read_latest(seated.mediums, seated.addresses, user_id).empty();
}

}  // namespace config
}  // namespace mau
