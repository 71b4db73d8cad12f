#include "source/reading.hpp"

#include <algorithm>
#include <set>

#include "cohort/leaving.hpp"
#include "pg/values.hpp"
#include "activity/registration.hpp"
#include "source/rights.hpp"
#include "source/source.hpp"

namespace mau::source {

namespace {

int overlap_seconds = 300;
constexpr Instant kCohortGranularity =
    3600000;                           // how old a member's time in the homeserver's own list becomes
constexpr std::size_t kMaxName = 255;  // bytes, as in register_user: it is a part of index keys
// Nobody may be known yet: those who were seen are of another server, say, or nothing is recorded. Then there
// is no position, which without users would tell the worker of a restore under way.
pg::Statement progress_query(
    "UPDATE mau.source SET activity_until = CASE WHEN activity_until IS NOT NULL"
    " OR (SELECT min(u.user_no) FROM mau.users u) IS NOT NULL"
    " THEN CASE WHEN $5 THEN $1 ELSE greatest(activity_until, $1) END END,"
    " pass_from = $2,"
    " synced_at = CASE WHEN $2 IS NULL THEN to_timestamp($3 / 1000.0) ELSE synced_at END,"
    " visits_until = coalesce(date '1970-01-01' + $4::int4, visits_until),"
    " trouble = NULL, trouble_sqlstate = NULL, trouble_at = NULL",
    {INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID});
pg::Statement table_query(
    "SELECT filenode, changes_until, pending_until, pending_xid FROM mau.source_tables WHERE table_name = $1",
    {TEXTOID});
pg::Statement remember_table_query(
    "INSERT INTO mau.source_tables AS s (table_name, filenode, changes_until, pending_until, pending_xid)"
    " VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (table_name) DO UPDATE SET filenode = EXCLUDED.filenode, changes_until = "
    "EXCLUDED.changes_until,"
    " pending_until = EXCLUDED.pending_until, pending_xid = EXCLUDED.pending_xid",
    {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID});
// Into tables of ours that are empty: nothing to look for, nothing to compare.
pg::Statement first_threepids_query(
    "INSERT INTO mau.user_threepids (user_id, medium, address)"
    " SELECT * FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) n(user_id, medium, address)",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});
pg::Statement no_users_query("SELECT NOT EXISTS (SELECT 1 FROM mau.users)");
pg::Statement no_threepids_query("SELECT NOT EXISTS (SELECT 1 FROM mau.user_threepids)");
pg::Statement threepids_query(
    "INSERT INTO mau.user_threepids AS t (user_id, medium, address)"
    " SELECT DISTINCT ON (n.medium, n.address) n.user_id, n.medium, n.address"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) n(user_id, medium, address)"
    " LEFT JOIN LATERAL (SELECT k.user_id FROM mau.user_threepids k"
    "   WHERE k.medium = n.medium AND k.address = n.address LIMIT 1) o ON true"
    " WHERE o.user_id IS DISTINCT FROM n.user_id ORDER BY n.medium, n.address"
    " ON CONFLICT (medium, address) DO UPDATE SET user_id = EXCLUDED.user_id",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});
pg::Statement holders_query(
    "SELECT DISTINCT t.user_id FROM ROWS FROM (unnest($1), unnest($2)) r(medium, address)"
    " JOIN mau.user_threepids t ON t.medium = r.medium AND t.address = r.address",
    {TEXTARRAYOID, TEXTARRAYOID});
pg::Statement lost_threepids_query(
    "DELETE FROM mau.user_threepids t USING ROWS FROM (unnest($1), unnest($2)) r(medium, address)"
    " WHERE t.medium = r.medium AND t.address = r.address AND NOT EXISTS"
    " (SELECT 1 FROM ROWS FROM (unnest($3), unnest($4)) h(medium, address)"
    "   WHERE h.medium = r.medium AND h.address = r.address)",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});
pg::Statement skipped_query(
    "INSERT INTO mau.source_skipped (table_name, reason, row_key) SELECT DISTINCT n.t, n.r, n.k"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) n(t, r, k)"
    " WHERE (SELECT count(*) FROM (SELECT 1 FROM mau.source_skipped LIMIT 10000) s) < 10000"
    " ON CONFLICT DO NOTHING",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});
pg::Statement deactivated_query(
    "SELECT u.user_id FROM mau.users u JOIN mau.monthly_active_users m ON m.user_id = u.user_id"
    " WHERE u.is_deactivated AND u.user_id > $1 ORDER BY u.user_id LIMIT $2",
    {TEXTOID, INT8OID});

Oid table_oid(const std::string& schema, const std::string& table) {
    return pg::guard([s = schema.c_str(), t = table.c_str()] {
        Oid const space = get_namespace_oid(s, true);
        return OidIsValid(space) ? get_relname_relid(t, space) : InvalidOid;
    });
}

}  // namespace

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

Place place_of(const World& world, const Source& source) {
    Place place;
    place.schema = quoted(source.schema);
    if (world.settings.server_name) place.server_name = literal(*world.settings.server_name);
    place.has = [&](const char* table, const char* column) {
        const Oid oid = table_oid(source.schema, table);
        return OidIsValid(oid) && pg::guard([&] { return get_attnum(oid, column) != InvalidAttrNumber; });
    };
    place.queries = source.queries;
    // A clock that was ahead once says nothing of what was read.
    const Instant synced_at =
        source.synced_at <= pg::to_instant(GetCurrentTimestamp()) ? source.synced_at : 0;
    place.since = std::max<Instant>(0, synced_at - Instant{overlap_seconds} * 1000);
    return place;
}

void Reading::begin() {
    std::vector<Oid> tables;
    for (const Requirement& need : contract_.needs)
        if (const Oid table = table_oid(source_.schema, need.table); OidIsValid(table))
            tables.push_back(table);
    std::vector<Oid> shared = tables;
    for (const std::string& name : {contract_.visits_table, contract_.cohort_table})
        if (const Oid table = table_oid(source_.schema, name); !name.empty() && OidIsValid(table))
            shared.push_back(table);
    if (share(shared))
        throw Error(sqlstate::lock_not_available,
                    "the homeserver's tables are being altered by another session", {},
                    "Try again when that is over.");
    check_there(
        "If the homeserver moved its tables, call mau.detach() and attach again; the numbers are kept.");
    role_ = reading_role(source_.attached_by, queries_of(contract_));
    now_ = pg::to_instant(GetCurrentTimestamp());
    if (contract_.parse)
        parsed_.emplace("sightings",
                        std::initializer_list<pg::NamedRows::Column>{
                            {"host", TEXTOID}, {"user", TEXTOID}, {"key", TEXTOID}, {"seen_at", INT8OID}});
    mark_ = take_mark();
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

pg::Rows Reading::read(const std::string& sql, const Params& params) const {
    ReadAs reader(role_);
    const pg::Rows rows = pg::execute(sql, params, true);
    reader.done();
    return rows;
}

/// Whether the caller may read the columns of a table that are needed, as far as they are there.
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
    throw Error(sqlstate::insufficient_privilege, "the homeserver's tables may not be read",
                "Role " + std::string(user) + " lacks " +
                    (usable ? "SELECT on " + forbidden : "USAGE on schema " + source_.schema) + ".",
                grants);
}

/// The latest time that a row can carry and be believed: a homeserver's clock may be ahead, and `at` behind.
Instant believable(Instant at) {
    const Instant now = pg::to_instant(GetCurrentTimestamp());
    return std::max(at, now) + kFuture;
}

/// The beginning of a text, at most so many bytes of whole characters.
std::string_view beginning(std::string_view text, std::size_t most) {
    std::size_t length = std::min(text.size(), most);
    while (length > 0 && length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80)
        --length;
    return text.substr(0, length);
}

/// Counts a row that is left out, and notes it for mau.source_skipped.
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

/// A view for an array parameter in which an empty text is NULL.
std::string_view or_null(const pg::Field& field) {
    return field.text().empty() ? std::string_view() : field.text();
}

void Reading::read_users(const std::string& where) {
    if (contract_.users.empty()) return;
    read_all(substitute(contract_.users, "where", where), {}, [&](const pg::Rows& rows) {
        registration::Accounts accounts;
        std::set<std::string_view> met;
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text();
            if (rows.at(i, 0).is_null() || !pg::valid_user_id(id)) {
                skip(contract_.users_table, id.empty() ? "no user id" : "user id is too long or not UTF-8",
                     id);
                continue;
            }
            if (!met.insert(id).second) {
                skip(contract_.users_table, "the same user again", id);
                continue;
            }
            std::optional<Instant> at = rows.at(i, 1).optional_integer();
            if (at && (*at < 0 || *at >= kEndOfTime)) {
                note(contract_.users_table, "registration time makes no sense; the user is taken without",
                     id);
                at.reset();
            }
            accounts.user_ids.push_back(id);
            accounts.registered_at.push_back(at);
            const std::string_view user_type = beginning(or_null(rows.at(i, 2)), kMaxName),
                                   appservice_id = beginning(or_null(rows.at(i, 3)), kMaxName);
            if (user_type.size() < rows.at(i, 2).text().size() ||
                appservice_id.size() < rows.at(i, 3).text().size())
                note(contract_.users_table, "user type or appservice id is too long; it is cut off", id);
            accounts.user_types.push_back(user_type);
            accounts.appservice_ids.push_back(appservice_id);
            accounts.guests.push_back(rows.at(i, 4).boolean());
            accounts.deactivated.push_back(rows.at(i, 5).boolean());
        }
        users +=
            into_empty_ ? registration::take_over_first(accounts) : registration::take_over(world_, accounts);
    });
}

void Reading::read_threepids(const std::string& where) {
    if (contract_.threepids.empty()) return;
    std::vector<std::string_view> ids, mediums, addresses;
    std::vector<std::string> folded;
    read_all(substitute(contract_.threepids, "where", where), {}, [&](const pg::Rows& rows) {
        ids.clear(), mediums.clear(), addresses.clear(), folded.clear();
        folded.reserve(rows.count);
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text(), medium = rows.at(i, 1).text(),
                                   address = rows.at(i, 2).text();
            if (!pg::valid_user_id(id) || medium.empty() || medium.size() > 255 || address.empty() ||
                address.size() > 1024) {  // what an index can hold
                skip(contract_.threepids_table, "no user, medium or address, or one that is too long", id);
                continue;
            }
            ids.push_back(id);
            mediums.push_back(medium);
            folded.push_back(directory::fold_address(medium, address));
            addresses.push_back(folded.back());
        }
        pg::Statement& query = into_empty_ ? first_threepids_query : threepids_query;
        threepids += static_cast<std::int64_t>(query.write(ids, mediums, addresses).count);
    });
}

/// Reads a whole table into one of ours. Rows go into an empty one as they come; should one be there twice,
/// or somebody have added it meanwhile, everything is read again and compared.
void Reading::fill(pg::Statement& is_empty, ReadRows read_rows) {
    if (is_empty.read_latest().at(0, 0).boolean()) {
        const auto before = std::make_tuple(users, threepids, skipped, skipped_keys_.size());
        into_empty_ = true;
        const auto trouble =
            pg::attempt([&] { (this->*read_rows)("true"); },
                        [](const pg::Trouble& t) { return t.state == sqlstate::unique_violation; });
        into_empty_ = false;
        if (!trouble) return;
        std::size_t notes = 0;
        std::tie(users, threepids, skipped, notes) = before;
        skipped_tables_.resize(notes), skipped_reasons_.resize(notes), skipped_keys_.resize(notes);
    }
    (this->*read_rows)("true");
}

void Reading::remember(const std::string& table, const TableState& state) const {
    remember_table_query.write(table, state.filenode, state.until, state.pending_until, state.pending_xid);
}

/// The parts of the contract that are read by changed pages, and what reads them.
std::vector<Reading::Part> Reading::parts() const {
    std::vector<Part> parts;
    for (const Part& part : {Part{contract_.users_table, &Reading::read_users},
                             Part{contract_.threepids_table, &Reading::read_threepids},
                             Part{contract_.activity_table, &Reading::read_activity}})
        if (!part.table.empty()) parts.push_back(part);
    return parts;
}

/// Reads the tables of these parts, each once, in the order of the parts.
void Reading::read_changed(const std::vector<Part>& parts) {
    for (auto part = parts.begin(); part != parts.end(); ++part) {
        const auto same = [&](const Part& other) { return other.table == part->table; };
        if (std::any_of(parts.begin(), part, same)) continue;
        std::vector<ReadRows> readers;
        for (const Part& other : parts)
            if (same(other)) readers.push_back(other.read_rows);
        read_table(part->table, readers);
    }
}

/// Reads the rows of the pages that changed since the last time.
void Reading::read_table(const std::string& table, const std::vector<ReadRows>& readers) {
    const Oid oid = table_oid(source_.schema, table);
    const pg::Rows row = table_query.read_latest(table);
    TableState known;
    if (!row.empty())
        known = {row.at(0, 0).integer(), row.at(0, 1).optional_integer(), row.at(0, 2).optional_integer(),
                 row.at(0, 3).optional_integer()};
    const std::int64_t filenode = filenode_of(oid);
    if (known.filenode != filenode) known = TableState{};
    // Reading so many pages costs less than another statement; where each row is a sighting, that is few.
    const std::uint32_t near = table == contract_.activity_table ? 2 : 32;
    const auto changed =
        may_read_places(oid, role_) ? changed_blocks(oid, known.until.value_or(0), near) : std::nullopt;
    pg::Scratch scratch;
    for (const ReadRows read_rows : readers) {
        const auto read_where = [&](const std::string& where) {
            scratch.run([&] { (this->*read_rows)(where); });
            scratch.reset();
        };
        if (!changed) read_where("true");
        for (const Blocks& run : changed ? *changed : std::vector<Blocks>())
            read_where("ctid >= '(" + std::to_string(run.first) + ",0)'::tid AND ctid < '(" +
                       std::to_string(run.end) + ",0)'::tid");
    }
    scratch.close();
    if (!later_) remember(table, advance(known, filenode, mark_));
}

/// Asks who has the reserved threepids: the only ones that matter, and the only way to see that one was
/// removed.
void Reading::check_reserved_threepids() {
    if (world_.reserved.empty() || contract_.holders.empty()) return;
    std::vector<std::string_view> mediums, addresses, holders;
    std::set<std::pair<std::string_view, std::string_view>> asked;
    for (const Threepid& threepid : world_.reserved) {
        mediums.push_back(threepid.medium);
        addresses.push_back(threepid.address);
        asked.insert({threepid.medium, threepid.address});
    }
    const pg::Rows known = holders_query.read_latest(mediums, addresses);
    for (std::uint64_t i = 0; i < known.count; ++i) holders.push_back(known.at(i, 0).text());
    const pg::Rows rows = read(contract_.holders,
                               {{TEXTARRAYOID, mediums}, {TEXTARRAYOID, addresses}, {TEXTARRAYOID, holders}});
    std::vector<std::string_view> ids, held_mediums, held_addresses;
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        if (!pg::valid_user_id(rows.at(i, 0).text())) continue;
        const std::string_view medium = rows.at(i, 1).text();
        const auto held = asked.find({medium, directory::fold_address(medium, rows.at(i, 2).text())});
        if (held == asked.end()) continue;
        ids.push_back(rows.at(i, 0).text());
        held_mediums.push_back(held->first);
        held_addresses.push_back(held->second);
        asked.erase(held);  // of two spellings the first: the one that is as our list has it
    }
    threepids += static_cast<std::int64_t>(threepids_query.write(ids, held_mediums, held_addresses).count);
    threepids += static_cast<std::int64_t>(
        lost_threepids_query.write(mediums, addresses, held_mediums, held_addresses).count);
}

void Reading::leave_deactivated() {
    if (world_.settings.count_deactivated_users) return;
    std::string last;
    pg::Scratch scratch;
    for (bool more = true; more;) {
        scratch.run([&] {
            const pg::Rows rows = deactivated_query.read_latest(last, std::int64_t{kFetch});
            for (std::uint64_t i = 0; i < rows.count; ++i) cohort::remove(world_, rows.at(i, 0).text());
            more = rows.count == static_cast<std::uint64_t>(kFetch);
            if (more) last = rows.at(rows.count - 1, 0).string();
        });
        scratch.reset();
    }
    scratch.close();
}

/// Records a batch; what is to be a queue must be one already.
void Reading::record(std::vector<activity::Sighting>& batch, const activity::How& how) {
    const std::size_t size = how.queue == activity::Queue::first_come ? batch.size() : activity::kChunk;
    for (std::size_t i = 0; i < batch.size(); i += size) {
        const auto begin = batch.begin() + static_cast<std::ptrdiff_t>(i);
        std::vector<activity::Sighting> part(
            begin, begin + static_cast<std::ptrdiff_t>(std::min(size, batch.size() - i)));
        activity::sort_newest(part);
        std::vector<Outcome> results(part.size());
        results.resize(activity::record(world_, part.data(), part.size(), results.data(), how));
        for (const Outcome outcome : results) ++outcomes[static_cast<int>(outcome)];
        sightings += static_cast<std::int64_t>(results.size());
    }
}

/// Counts and notes the rows that a query for malformed ones finds.
void Reading::note_malformed(const std::string& query) {
    if (query.empty()) return;
    const pg::Rows rows = read(query, {{INT8OID, at_}});
    for (std::uint64_t i = 0; i < rows.count; ++i)
        skip(rows.at(i, 0).string(), rows.at(i, 1).string().c_str(), rows.at(i, 2).text());
}

/// Reads and records everybody's last sighting: rows (user_id, last_seen, whether a member).
void Reading::read_last_seen(const std::string& sql, const Params& params, const activity::How& members,
                             const activity::How& others) {
    std::vector<activity::Sighting> batch, batch_of_others;
    read_all(sql, params, [&](const pg::Rows& rows) {
        batch.clear(), batch_of_others.clear();
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text();
            if (pg::valid_user_id(id))
                (rows.at(i, 2).boolean() ? batch : batch_of_others)
                    .push_back({id, rows.at(i, 1).integer(), Platform::unknown});
            else
                skip_sighting(id);
        }
        record(batch, members);
        record(batch_of_others, others);
    });
}

/// Up to when the homeserver's own list of its members says who is one: a member's time there is renewed when
/// it is older than an hour. Nothing where there is no list, or one that the homeserver keeps no longer.
std::optional<Instant> Reading::cohort_kept_until(std::optional<Instant> newest) {
    if (contract_.cohort.empty() || !recording(world_.settings)) return std::nullopt;
    std::optional<Instant> newest_member;
    const auto trouble = pg::attempt([&] {
        newest_member = read("SELECT max(c.last_seen) FROM (" + contract_.cohort + ") c(user_id, last_seen)",
                             {{INT8OID, at_ + kFuture}})
                            .at(0, 0)
                            .optional_integer();
    });
    if (trouble) {
        const std::string role = pg::guard([&] { return GetUserNameFromId(role_, false); });
        const bool forbidden = trouble->state == sqlstate::insufficient_privilege;
        no_cohort = {"mau " + std::string(forbidden ? "may" : "can") + "not read " + contract_.cohort_table +
                         ", members are known as far as " + contract_.activity_name + " tells",
                     "It is: " + trouble->message + ".",
                     (forbidden ? "GRANT SELECT ON " + place_.schema + "." + quoted(contract_.cohort_table) +
                                      " TO " + quoted(role) + "; then"
                                : std::string("Mend it, then")) +
                         " call mau.detach() and mau.attach()."};
        return std::nullopt;
    }
    if (!newest_member || (newest && *newest - *newest_member > kDay)) return std::nullopt;
    return *newest_member + kCohortGranularity;
}

/// Everybody's last sighting up to $1, whether the user is a member as far as the homeserver tells, and
/// whether the sighting is among its activity.
std::string Reading::seen_query() const {
    if (!use_cohort_)
        return "(SELECT a.user_id, a.last_seen, true, true FROM (" + contract_.last_seen +
               ") a(user_id, last_seen)) s(user_id, last_seen, is_member, is_activity)";
    // The two are written one after the other.
    return "(SELECT coalesce(a.user_id, c.user_id),"
           " CASE WHEN c.last_seen - a.last_seen <= 60000 THEN a.last_seen"
           " ELSE greatest(a.last_seen, c.last_seen) END, c.user_id IS NOT NULL, a.user_id IS NOT NULL FROM "
           "(" +
           contract_.last_seen + ") a(user_id, last_seen) FULL JOIN (" + contract_.cohort +
           ") c(user_id, last_seen) ON c.user_id = a.user_id) s(user_id, last_seen, is_member, is_activity)";
}

void Reading::import(Instant at) {
    at_ = at;
    fill(no_users_query, &Reading::read_users);
    fill(no_threepids_query, &Reading::read_threepids);
    parse_sightings();
    const std::optional<Instant> newest =
        read(contract_.newest, {{INT8OID, at + kFuture}}).at(0, 0).optional_integer();
    // An old dump is taken over as it was at its end, with a day for clocks that differ; what has expired
    // since counts at no instant after.
    const Instant horizon = std::min(at, newest.value_or(at)) - kWindow - kDay;
    const std::optional<Instant> kept_until = cohort_kept_until(newest);
    use_cohort_ = kept_until.has_value();
    const std::string seen = "SELECT s.user_id, s.last_seen, s.is_member FROM " + seen_query() +
                             " WHERE (s.user_id = ANY ($2)) IS ";
    // Whom the homeserver has not as a member is none by what it had seen then.
    const Instant others = std::max(horizon, kept_until.value_or(horizon));
    const std::vector<std::string_view> reserved = directory::registered_reserved_users(world_);
    const Params params = {{INT8OID, at + kFuture}, {TEXTARRAYOID, reserved}};
    // Seats are given out as the reaper would leave them: the reserved users have theirs, then come the
    // newest.
    if (!reserved.empty())
        read_last_seen(seen + "TRUE", params, {horizon, activity::Queue::first_come, false},
                       {horizon, activity::Queue::first_come, false});
    cohort::seat_reserved(world_);
    if (world_.settings.limit_usage_by_mau)
        read_last_seen(seen + "NOT TRUE ORDER BY 2 DESC", params,
                       {horizon, activity::Queue::newest_first, false},
                       {others, activity::Queue::newest_first, false});
    else
        // In the order of our index, so that rows that are written together go beside each other.
        read_last_seen(seen + "NOT TRUE ORDER BY s.user_id COLLATE \"C\"", params,
                       {horizon, activity::Queue::first_come, false},
                       {others, activity::Queue::first_come, false});
    const bool later = !contract_.activity_table.empty() && find_later();
    for (const Part& part : parts()) {
        const std::int64_t filenode = filenode_of(table_oid(source_.schema, part.table));
        const bool unread = later && part.table == contract_.activity_table;
        remember(part.table,
                 unread ? TableState{filenode, {}, {}, {}} : advance(TableState{}, filenode, mark_));
    }
    if (contract_.activity_table.empty()) activity_was_replaced();  // remembers the file
    import_visits();
    note_malformed(substitute(contract_.malformed, "where", "true"));
    flush_skipped();
    progress_query.write(newest ? std::optional(std::min({*newest, at, now_})) : std::nullopt, std::nullopt,
                         std::min(at, now_), visits_until_, false);
}

/// Up to when activity of changed pages is taken: in the present, what a clock that is a little ahead has
/// written, too. Were it left for later, the pages would be, too, with all that changed since, and of a busy
/// homeserver that would never end.
Instant taken_until(Instant at) {
    constexpr Instant kAhead = 300000;
    return at >= pg::to_instant(GetCurrentTimestamp()) - kAhead ? at + kAhead : at;
}

/// Whether there is activity that an import at an instant of the past has to leave for later.
bool Reading::find_later() {
    return read("SELECT (" + contract_.newest + ") > " + std::to_string(at_ + kFuture) + " IS TRUE",
                {{INT8OID, believable(at_)}})
        .at(0, 0)
        .boolean();
}

/// Reads activity from changed pages.
void Reading::read_activity(const std::string& where) {
    const Instant until = taken_until(at_), limit = believable(at_);
    parse_sightings(where);
    std::vector<activity::Sighting> batch;
    read_all(substitute(contract_.activity, "where", where), {}, [&](const pg::Rows& rows) {
        batch.clear();
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text();
            const Instant seen_at = rows.at(i, 1).integer();
            if (seen_at > until) {
                later_ = later_ || seen_at <= limit;
            } else if (!pg::valid_user_id(id)) {
                skip_sighting(id);
            } else if (seen_at >= 0) {
                if (seen_at <= now_) newest_ = std::max(newest_, seen_at);
                batch.push_back({id, seen_at, platform_of(rows.at(i, 2).text())});
            }
        }
        record(batch, {at_ - kWindow, activity::Queue::first_come, true, false});
    });
    note_malformed(substitute(contract_.malformed, "where", where));
}

/// Reads activity through its index on the time, about `max_rows` rows. Answers whether it came to the end.
bool Reading::read_activity_by_time(std::int64_t max_rows) {
    // A row may be committed some time after its time; so each pass begins a little before the end of the
    // last.
    Instant from =
        source_.pass_from.value_or(std::max<Instant>(0, newest_ - Instant{overlap_seconds} * 1000));
    std::vector<activity::Sighting> batch;
    pg::Scratch scratch;
    for (std::int64_t left = max_rows; from <= at_;) {
        const std::int64_t limit = std::min<std::int64_t>(left, kFetch);
        std::int64_t count = 0;
        scratch.reset();
        scratch.run([&] {
            const pg::Rows rows =
                read(contract_.activity, {{INT8OID, from}, {INT8OID, at_}, {INT8OID, limit}});
            batch.clear();
            for (std::uint64_t i = 0; i < rows.count; ++i) {
                const std::string_view id = rows.at(i, 0).text();
                if (rows.at(i, 1).integer() <= now_) newest_ = std::max(newest_, rows.at(i, 1).integer());
                if (pg::valid_user_id(id))
                    batch.push_back({id, rows.at(i, 1).integer(), platform_of(rows.at(i, 2).text())});
                else
                    skip_sighting(id);
            }
            record(batch, {at_ - kWindow, activity::Queue::first_come, true, false});
            count = static_cast<std::int64_t>(rows.count);
            if (count > 0) from = rows.at(rows.count - 1, 1).integer() + 1;
        });
        if (count < limit) break;
        left -= count;
        if (left <= 0) {
            resume_ = from;
            return false;
        }
        pg::guard([] { CHECK_FOR_INTERRUPTS(); });
    }
    note_malformed(substitute(contract_.malformed, "where", "true"));
    return true;
}

/// Whether the table that activity is read from is in another file than at the last sync; remembers the file.
/// After a restore of mau's tables, no file is known.
bool Reading::activity_was_replaced() const {
    const std::string& name = contract_.activity_name;
    const Oid table = name.empty() ? InvalidOid : table_oid(source_.schema, name);
    const std::int64_t filenode = OidIsValid(table) ? filenode_of(table) : 0;
    const std::string key = name.empty() ? "activity" : name;
    const pg::Rows row = table_query.read_latest(key);
    if (!row.empty() && row.at(0, 0).integer() == filenode) return false;
    remember(key, TableState{filenode, {}, {}, {}});
    return true;
}

/// Whether there is no activity any more where the reading stands, nor after it.
bool Reading::activity_shrank() const {
    if (!source_.activity_until) return false;
    const Instant from = std::max<Instant>(0, *source_.activity_until - Instant{overlap_seconds} * 1000);
    return read(contract_.activity, {{INT8OID, from}, {INT8OID, believable(at_)}, {INT8OID, std::int64_t{1}}})
        .empty();
}

/// Compares everybody's newest row up to an instant with what mau knows, and records what it lacks. Users
/// without a row of mau.users were forgotten, where the homeserver has a table of users.
void Reading::compare(Instant until) {
    compared = true;
    if (!recording(world_.settings)) return;
    parse_sightings();
    const bool limit = world_.settings.limit_usage_by_mau;
    const activity::How how{at_ - kWindow,
                            limit ? activity::Queue::newest_first : activity::Queue::first_come};
    const std::string sql = "SELECT s.user_id, s.last_seen FROM (" + contract_.last_seen +
                            ") s(user_id, last_seen) WHERE s.last_seen >= " +
                            std::to_string(std::max<Instant>(0, at_ - kWindow)) +
                            (limit ? " ORDER BY 2 DESC" : " ORDER BY s.user_id COLLATE \"C\"");
    const auto changes = [&] {
        std::int64_t changed = sightings;
        for (const Outcome none : {Outcome::unchanged, Outcome::remote, Outcome::off})
            changed -= outcomes[static_cast<int>(none)];
        return changed;
    };
    const std::int64_t granularity = world_.settings.last_seen_granularity;
    const auto keep_newer = [&](std::vector<std::string_view>& users, std::vector<std::int64_t>& seen) {
        // By the indexes: a statement would rather read the tables whole.
        pg::KeyedTable accounts, members;
        accounts.open(world_.users_table, world_.users_index, kUsersIndex);
        members.open(world_.cohort_table, world_.cohort_index, kCohortIndex);
        std::size_t left = 0;
        for (std::size_t i = 0; i < users.size(); ++i) {
            const Datum key = pg::key_datum(users[i]);
            const pg::Found member = members.find(key);
            if (member.exists && member.integer(cohort::timestamp) + granularity >= seen[i]) continue;
            const pg::Found account = accounts.find(key);
            if (account.exists ? !account.is_null(directory::users::last_seen) &&
                                     account.integer(directory::users::last_seen) + granularity >= seen[i]
                               : !contract_.users.empty())
                continue;
            users[left] = users[i];
            seen[left++] = seen[i];
        }
        accounts.close();
        members.close();
        users.resize(left);
        seen.resize(left);
    };
    const std::int64_t before = changes();
    std::vector<std::string_view> ids;
    std::vector<std::int64_t> times;
    std::vector<activity::Sighting> batch;
    read_all(sql, {{INT8OID, until}}, [&](const pg::Rows& rows) {
        ids.clear(), times.clear(), batch.clear();
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::string_view id = rows.at(i, 0).text();
            if (!pg::valid_user_id(id) || !is_local(world_.settings, id)) continue;
            ids.push_back(id);
            times.push_back(rows.at(i, 1).integer());
        }
        keep_newer(ids, times);
        for (std::size_t i = 0; i < ids.size(); ++i) batch.push_back({ids[i], times[i], Platform::unknown});
        record(batch, how);
    });
    differences += changes() - before;
}

/// Compares all that there is, where what was read before tells nothing of it, and goes on from its end.
void Reading::compare_all() {
    const Instant until = std::min(at_, now_);
    compare(until);
    newest_ = read(contract_.newest, {{INT8OID, until}}).at(0, 0).optional_integer().value_or(0);
    resume_.reset();
    moves_back_ = true;
}

void Reading::reconcile(Instant at) {
    at_ = at;
    Instant until = std::min(at, now_);
    // What comes after the position, or within the overlap, sync will read.
    if (source_.activity_until && *source_.activity_until <= now_)
        until = std::min(until, *source_.activity_until - Instant{overlap_seconds} * 1000);
    compare(until);
}

bool Reading::sync(Instant at, std::int64_t max_rows) {
    at_ = at;
    // Where the clock was ahead, or was set back, nobody knows what was read.
    moves_back_ = source_.activity_until.value_or(0) > now_;
    newest_ = moves_back_ ? 0 : source_.activity_until.value_or(0);
    if (contract_.users_table.empty()) read_users("true");
    if (contract_.threepids_table.empty()) read_threepids("true");
    read_changed(parts());
    check_reserved_threepids();
    leave_deactivated();
    bool complete = true;
    if (contract_.activity_table.empty()) {
        const bool replaced = activity_was_replaced();
        const std::int64_t before = sightings + skipped;
        if (!moves_back_ && !replaced) complete = read_activity_by_time(max_rows);
        if (moves_back_ || replaced ||
            (!source_.pass_from && sightings + skipped == before && activity_shrank()))
            compare_all();
    }
    const bool all_days = !complete || read_visits();
    flush_skipped();
    progress_query.write(newest_ > 0 ? std::optional(newest_) : std::nullopt, resume_, std::min(at, now_),
                         visits_until_, moves_back_);
    return complete && all_days;
}

Datum Reading::usage(Instant at) {
    parse_sightings();
    if (!contract_.usage_with_visits.empty()) {
        pg::Rows rows;
        // Without the right to read the daily visits, or where they are of another shape, it goes without.
        const auto trouble = pg::attempt(
            [&] {
                rows = read(contract_.usage_with_visits, {{INT8OID, at}});
            },
            [](const pg::Trouble& t) {
                return t.state.compare(0, 2, "42") == 0 || t.state.compare(0, 2, "22") == 0;
            });
        if (!trouble) return rows.at(0, 0).datum();
    }
    return read(contract_.usage, {{INT8OID, at}}).at(0, 0).datum();
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
