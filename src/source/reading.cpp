#include "source/reading.hpp"

#include <algorithm>

#include "pg/values.hpp"
#include "source/rights.hpp"
#include "source/source.hpp"
#include "source/time_zone.hpp"

namespace mau::source {

namespace {

int overlap_seconds = 300;
// While mau.users is empty (all users seen are of another server, or nothing is recorded), no position is
// stored: a position without users means to the worker that a restore is in progress.
pg::Statement progress_query(
    "UPDATE mau.source SET activity_until = CASE WHEN activity_until IS NOT NULL"
    " OR (SELECT min(u.user_no) FROM mau.users u) IS NOT NULL"
    " THEN CASE WHEN $5 THEN $1 ELSE greatest(activity_until, $1) END END,"
    " pass_from = $2,"
    " synced_at = CASE WHEN $2 IS NULL THEN to_timestamp($3 / 1000.0) ELSE synced_at END,"
    " visits_until = coalesce(date '1970-01-01' + $4::int4, visits_until),"
    " finds_new_by = $6, server_name = $7, other_server_name = $8,"
    " trouble = NULL, trouble_sqlstate = NULL, trouble_at = NULL",
    {INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID, TEXTOID, TEXTOID, TEXTOID});
pg::Statement skipped_query(
    "INSERT INTO mau.source_skipped (table_name, reason, row_key) SELECT DISTINCT n.t, n.r, n.k"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) n(t, r, k)"
    " WHERE (SELECT count(*) FROM (SELECT 1 FROM mau.source_skipped LIMIT 10000) s) < 10000"
    " ON CONFLICT DO NOTHING",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});

}  // namespace

Instant overlap() {
    return Instant{overlap_seconds} * 1000;
}

Oid table_oid(const std::string& schema, const std::string& table) {
    return pg::guard([s = schema.c_str(), t = table.c_str()] {
        Oid const space = get_namespace_oid(s, true);
        return OidIsValid(space) ? get_relname_relid(t, space) : InvalidOid;
    });
}

Instant latest_plausible(Instant at) {
    const Instant now = pg::to_instant(GetCurrentTimestamp());
    return std::max(at, now) + kFuture;
}

std::string_view beginning(std::string_view text, std::size_t most) {
    std::size_t length = std::min(text.size(), most);
    while (length > 0 && length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80)
        --length;
    return text.substr(0, length);
}

std::string quoted(const std::string& identifier) {
    const char* text = pg::guard([name = identifier.c_str()] { return quote_identifier(name); });
    return text;
}

std::string literal(const std::string& text) {
    const char* quoted = pg::guard([value = text.c_str()] { return quote_literal_cstr(value); });
    return quoted;
}

MakeContract maker(std::string_view kind) {
    std::string known;
    for (const Kind& k : kKinds) {
        if (kind == k.name) return k.make;
        known += (known.empty() ? "" : ", ") + std::string(k.name);
    }
    throw Error(sqlstate::invalid_parameter, "unknown kind of homeserver",
                "It is \"" + std::string(kind) + "\".", "The kinds are: " + known + ".");
}

Homeserver homeserver_of(const Config& config, const Source& source) {
    Homeserver homeserver;
    homeserver.schema = quoted(source.schema);
    if (config.settings.server_name) homeserver.server_name = literal(*config.settings.server_name);
    homeserver.has = [&](const char* table, const char* column) {
        const Oid oid = table_oid(source.schema, table);
        return OidIsValid(oid) && pg::guard([&] { return get_attnum(oid, column) != InvalidAttrNumber; });
    };
    homeserver.queries = source.queries;
    // A time ahead of the clock says nothing about the rows read.
    const Instant synced_at =
        source.synced_at <= pg::to_instant(GetCurrentTimestamp()) ? source.synced_at : 0;
    homeserver.since = std::max<Instant>(0, synced_at - overlap());
    return homeserver;
}

void Reading::begin() {
    std::vector<Oid> tables;
    for (const Requirement& need : contract_.needs)
        if (const Oid table = table_oid(source_.schema, need.table); OidIsValid(table))
            tables.push_back(table);
    std::vector<Oid> shared = tables;
    for (const std::string& name : {contract_.visits_table, contract_.cohort_table, contract_.answers_table})
        if (const Oid table = table_oid(source_.schema, name); !name.empty() && OidIsValid(table))
            shared.push_back(table);
    const Error altered(sqlstate::lock_not_available,
                        "the homeserver's tables are being altered by another session", {},
                        "Try again when that is over.");
    if (share(shared)) throw altered;
    check_there(
        "If the homeserver moved its tables, call mau.detach() and attach again; the numbers are kept.");
    choose_time_zone();
    // Parsing a query locks its tables. Those of custom queries are not among the shared ones.
    if (pg::attempt(
            [&] {
                const BriefWaiting waiting;
                role_ = reading_role(source_.attached_by, queries_of(contract_));
            },
            [](const pg::Trouble& t) { return t.state == sqlstate::lock_not_available; }))
        throw altered;
    now_ = pg::to_instant(GetCurrentTimestamp());
    if (contract_.parse)
        parsed_.emplace("sightings",
                        std::initializer_list<pg::NamedRows::Column>{
                            {"host", TEXTOID}, {"user", TEXTOID}, {"key", TEXTOID}, {"seen_at", INT8OID}});
    mark_ = take_mark();
}

/// Looks up the time zone of the homeserver's local times. UTC stands for one that is not known.
void Reading::choose_time_zone() {
    if (contract_.local_times_table.empty()) return;
    time_zone_ = time_zone_of(table_oid(source_.schema, contract_.local_times_table));
    if (time_zone_) return;
    time_zone_ = "UTC";
    no_time_zone = Obstacle{
        "the time zone of " + contract_.local_times_table + "." + contract_.local_times +
            " is not known; it is read as UTC",
        "The roles that may write it have different settings of TimeZone, or this session does not show the "
        "server's.",
        "UPDATE mau.settings SET source_time_zone = 'Europe/Berlin', or as it is; then call mau.detach() and "
        "mau.attach()."};
    note(contract_.local_times_table, "its time zone is not known; it is read as UTC", contract_.local_times);
}

void Reading::parse_sightings(const std::string& where) {
    if (!parsed_) return;
    constexpr int kValue = 3;
    parsed_->clear();
    read_all(substitute(contract_.unparsed, "where", where), {}, [&](const pg::Rows& rows) {
        for (std::uint64_t i = 0; i < rows.count; ++i)
            rows.set(i, kValue, contract_.parse(rows.at(i, kValue).text()));
        parsed_->add(rows);
    });
}

void Reading::keep_progress(std::optional<Instant> until) const {
    if (progress_query
            .write(until, resume_, std::min(at_, now_), visits_until_, moves_back_, finds_new_by(),
                   server_name_, other_server_name_)
            .count == 0)
        throw not_written("mau.source");
}

pg::Rows Reading::read(const std::string& sql, const Params& params) const {
    ReadAs reader(role_, time_zone_);
    const pg::Rows rows = pg::execute(sql, params, true);
    reader.done();
    return rows;
}

/// Whether the caller may read the needed columns of a table, as far as they exist.
bool Reading::readable(const Requirement& need) const {
    const Oid table = table_oid(source_.schema, need.table);
    return std::all_of(need.columns.begin(), need.columns.end(), [&](const std::string& column) {
        return pg::guard([&, c = column.c_str()] {
            AttrNumber const number = get_attnum(table, c);
            return number == InvalidAttrNumber ||
                   pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
                   pg_attribute_aclcheck(table, number, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
        });
    });
}

void Reading::check_there(const char* hint) const {
    std::string missing;
    bool tables_missing = false;
    auto miss = [&](const std::string& item) { missing += (missing.empty() ? "" : ", ") + item; };
    const bool there =
        pg::guard([s = source_.schema.c_str()] { return OidIsValid(get_namespace_oid(s, true)); });
    if (!there)
        throw Error(sqlstate::undefined_schema, "schema \"" + source_.schema + "\" does not exist", {}, hint);
    for (const Requirement& need : contract_.needs) {
        const Oid table = table_oid(source_.schema, need.table);
        if (!OidIsValid(table)) {
            miss("table " + need.table);
            tables_missing = true;
            continue;
        }
        for (const std::string& column : need.columns)
            if (!pg::guard([&, c = column.c_str()] { return get_attnum(table, c) != InvalidAttrNumber; }))
                miss("column " + need.table + "." + column);
    }
    if (missing.empty()) return;
    const std::string message = "schema \"" + source_.schema + "\" does not hold all that mau reads of " +
                                source_.kind + ": no " + missing;
    if (tables_missing) throw Error(sqlstate::undefined_table, message, {}, hint);
    throw Error(sqlstate::undefined_column, message,
                "The tables are there, but of a version that mau does not know.", hint);
}

void Reading::check_rights() const {
    std::string forbidden, grants;
    const char* user = pg::guard([] { return GetUserNameFromId(GetUserId(), false); });
    const std::string schema = quoted(source_.schema);
    const bool usable = pg::guard([s = source_.schema.c_str()] {
        return pg::compat::may_use_schema(get_namespace_oid(s, false), GetUserId());
    });
    if (!usable) grants = "GRANT USAGE ON SCHEMA " + schema + " TO " + quoted(user) + "; ";
    for (const Requirement& need : contract_.needs) {
        if (readable(need)) continue;
        forbidden += (forbidden.empty() ? "" : ", ") + need.table;
        // ctid: so that sync can ask for changed pages only.
        grants += "GRANT SELECT (ctid";
        for (const std::string& column : need.columns) grants += ", " + quoted(column);
        grants += ") ON " + schema + "." + quoted(need.table) + " TO " + quoted(user) + "; ";
    }
    if (grants.empty()) return;
    grants.pop_back();
    throw Error(sqlstate::insufficient_privilege, "permission denied for the homeserver's tables",
                "Role " + std::string(user) + " lacks " +
                    (usable ? "SELECT on " + forbidden : "USAGE on schema " + source_.schema) + ".",
                grants);
}

/// The warning about a table that cannot be read; an empty name stands for the visits of a custom source.
/// `known`: the part of the data that mau has without that table.
Reading::Obstacle Reading::cannot_read(const std::string& table, const pg::Trouble& trouble,
                                       const std::string& known) const {
    const bool forbidden = trouble.state == sqlstate::insufficient_privilege;
    const std::string role = pg::guard([&] { return GetUserNameFromId(role_, false); });
    const std::string remedy = !forbidden      ? "Correct it,"
                               : table.empty() ? "Grant it,"
                                               : "GRANT SELECT ON " + homeserver_.schema + "." +
                                                     quoted(table) + " TO " + quoted(role) + ";";
    return {"mau cannot read " + (table.empty() ? "visits" : table) + "; " + known,
            forbidden ? "Role " + role + " lacks the right to read it." : "It is: " + trouble.message + ".",
            remedy + " then call mau.detach() and mau.attach()."};
}

/// Counts a skipped row, and notes it for mau.source_skipped.
void Reading::skip(const std::string& table, const char* reason, std::string_view key) {
    ++skipped;
    note(table, reason, key);
}

void Reading::skip_sighting(std::string_view user_id) {
    const std::string& name =
        contract_.activity_table.empty() ? contract_.activity_name : contract_.activity_table;
    skip(name.empty() ? "activity" : name, "no user id, or one that is too long or not UTF-8", user_id);
}

void Reading::note(const std::string& table, const char* reason, std::string_view key) {
    if (skipped_keys_.size() >= 1000) return;  // enough to show what is wrong
    skipped_tables_.push_back(table);
    skipped_reasons_.emplace_back(beginning(reason, 200));
    skipped_keys_.emplace_back(beginning(key, 80));
}

void Reading::flush_skipped() {
    if (skipped_keys_.empty()) return;
    const std::vector<std::string_view> tables(skipped_tables_.begin(), skipped_tables_.end());
    const std::vector<std::string_view> reasons(skipped_reasons_.begin(), skipped_reasons_.end());
    const std::vector<std::string_view> keys(skipped_keys_.begin(), skipped_keys_.end());
    skipped_query.write(tables, reasons, keys);
}

/// Records a batch; for newest_first it must be sorted already.
void Reading::record(std::vector<activity::Sighting>& batch, const activity::RecordOptions& options) {
    activity::clamp_to_now(config_, batch.data(), batch.size());
    activity::RecordOptions of_task = options;
    of_task.is_task = true;
    const std::size_t size = options.queue == activity::Queue::first_come ? batch.size() : activity::kSlice;
    for (std::size_t i = 0; i < batch.size(); i += size) {
        const auto begin = batch.begin() + static_cast<std::ptrdiff_t>(i);
        std::vector<activity::Sighting> part(
            begin, begin + static_cast<std::ptrdiff_t>(std::min(size, batch.size() - i)));
        activity::sort_newest(part);
        std::vector<Outcome> results(part.size());
        results.resize(activity::record(config_, part.data(), part.size(), results.data(), of_task).users);
        for (const Outcome outcome : results) ++outcomes[static_cast<int>(outcome)];
        sightings += static_cast<std::int64_t>(results.size());
    }
}

/// Counts and notes the rows that a query for malformed ones finds.
void Reading::note_malformed(const std::string& query) {
    if (query.empty()) return;
    const pg::Rows rows = read(query, {{INT8OID, std::max(at_, now_)}});
    for (std::uint64_t i = 0; i < rows.count; ++i)
        skip(rows.at(i, 0).string(), rows.at(i, 1).string().c_str(), rows.at(i, 2).text());
}

pg::Rows Reading::answers(std::string_view user_id) const {
    return read(contract_.answers, {{TEXTARRAYOID, std::vector<std::string_view>{user_id}}});
}

Datum Reading::usage(Instant at) {
    parse_sightings();
    if (!contract_.usage_with_visits.empty()) {
        pg::Rows rows;
        // If the daily visits cannot be read, or have other columns, the figures without them are returned.
        const auto trouble = pg::attempt(
            [&] {
                rows = read(contract_.usage_with_visits, {{INT8OID, at}});
            },
            [](const pg::Trouble& t) {
                return t.state.compare(0, 2, "42") == 0 || t.state.compare(0, 2, "22") == 0;
            });
        if (!trouble) return rows.at(0, 0).datum();
    }
    const pg::Rows rows = read(contract_.usage, {{INT8OID, at}});
    const char* const correct =
        "Correct the query in mau.custom_source, then call mau.detach() and mau.attach().";
    if (rows.count != 1 || rows.at(0, 0).is_null())
        throw Error(sqlstate::no_data, "the query for usage did not return one row with figures",
                    rows.count == 1 ? "It returned NULL."
                                    : "It returned " + std::to_string(rows.count) + " rows instead of one.",
                    correct);
    const Datum figures = rows.at(0, 0).datum();
    if (pg::guard([&] { return !JB_ROOT_IS_OBJECT(DatumGetJsonbP(figures)); }))
        throw Error(sqlstate::invalid_parameter, "the query for usage did not return a JSON object", {},
                    correct);
    return figures;
}

void init() {
    pg::guard([] {
        DefineCustomIntVariable(
            "mau.sync_overlap", "How far back before the last activity that was read each sync begins.",
            "A homeserver's rows are committed some time after the time that they carry. Raise it "
            "if the homeserver's writes are held up for longer than this.",
            &overlap_seconds, 300, 0, 86400, PGC_USERSET, GUC_UNIT_S, nullptr, nullptr, nullptr);
    });
}

}  // namespace mau::source
