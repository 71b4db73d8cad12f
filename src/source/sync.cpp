// Sync: reads new rows, from changed pages or by their time.
#include "source/reading.hpp"

#include <algorithm>
#include <set>

#include "pg/values.hpp"

namespace mau::source {

namespace {

pg::Statement table_query(
    "SELECT filenode, changes_until, pending_until, pending_xid FROM mau.source_tables"
    " WHERE table_name = $1 AND system_identifier = $2",
    {TEXTOID, INT8OID});
pg::Statement remember_table_query(
    "INSERT INTO mau.source_tables AS s"
    " (table_name, filenode, changes_until, pending_until, pending_xid, system_identifier)"
    " VALUES ($1, $2, $3, $4, $5, $6)"
    " ON CONFLICT (table_name) DO UPDATE SET filenode = EXCLUDED.filenode, changes_until = "
    "EXCLUDED.changes_until,"
    " pending_until = EXCLUDED.pending_until, pending_xid = EXCLUDED.pending_xid,"
    " system_identifier = EXCLUDED.system_identifier",
    {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID});

/// The instant up to which activity from changed pages is recorded. At present this includes rows a little
/// ahead of the clock: if they were left for later, their pages would have to be read again and again on a
/// busy homeserver.
Instant taken_until(Instant at) {
    using activity::kAhead;
    return at >= pg::to_instant(GetCurrentTimestamp()) - kAhead ? at + kAhead : at;
}

}  // namespace

void Reading::remember(const std::string& table, const TableState& state) const {
    if (remember_table_query
            .write(table, state.filenode, state.until, state.pending_until, state.pending_xid,
                   system_identifier())
            .count == 0)
        throw not_written("mau.source_tables");
}

/// The parts of the contract that are read by changed pages, with their readers.
std::vector<Reading::Part> Reading::parts() const {
    std::vector<Part> parts;
    for (const Part& part :
         {Part{contract_.users_table, &Reading::read_users}, Part{contract_.bans_table, &Reading::read_bans},
          Part{contract_.threepids_table, &Reading::read_threepids},
          Part{contract_.activity_table, &Reading::read_activity}})
        if (!part.table.empty()) parts.push_back(part);
    return parts;
}

std::string Reading::finds_new_by() const {
    std::string whole, way = contract_.activity_table.empty() ? "time" : "";
    std::set<std::string> met;
    for (const Part& part : parts()) {
        if (!met.insert(part.table).second) continue;
        const bool is_activity = part.table == contract_.activity_table;
        if (!has_pages(table_oid(source_.schema, part.table), role_))
            whole += (whole.empty() ? "all rows of " : ", ") + part.table;
        else if (is_activity)
            way = "changed pages of " + part.table + ", which has no index on the time";
    }
    if (whole.empty()) return way;
    return (way.empty() ? "" : way + "; ") + whole + ", whose changed pages cannot be used";
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
    const pg::Rows row = table_query.read_latest(table, system_identifier());
    TableState known;
    if (!row.empty())
        known = {row.at(0, 0).integer(), row.at(0, 1).optional_integer(), row.at(0, 2).optional_integer(),
                 row.at(0, 3).optional_integer()};
    const std::int64_t filenode = filenode_of(oid);
    if (known.filenode != filenode) known = TableState{};
    // Reading so many pages costs less than another statement; where each row is a sighting, this is a small
    // number.
    const std::uint32_t near = table == contract_.activity_table ? 2 : 32;
    const bool by_pages = has_pages(oid, role_);
    const std::vector<Blocks> changed =
        by_pages ? changed_blocks(oid, known.until.value_or(0), near) : std::vector<Blocks>();
    pg::Scratch scratch;
    for (const ReadRows read_rows : readers) {
        const auto read_where = [&](const std::string& where) {
            scratch.run([&] { (this->*read_rows)(where); });
            scratch.reset();
        };
        if (!by_pages) read_where("true");
        for (const Blocks& run : changed)
            read_where("ctid >= '(" + std::to_string(run.first) + ",0)'::tid AND ctid < '(" +
                       std::to_string(run.end) + ",0)'::tid");
    }
    scratch.close();
    if (!later_) remember(table, advance(known, filenode, mark_));
}

/// Reads activity from changed pages.
void Reading::read_activity(const std::string& where) {
    const Instant until = taken_until(at_), limit = latest_plausible(at_);
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

/// Reads activity through its index on the time, about `max_rows` rows. Returns whether it reached the end.
bool Reading::read_activity_by_time(std::int64_t max_rows) {
    // A row may be committed some time after its time; so each pass begins a little before the end of the
    // last.
    Instant from = source_.pass_from.value_or(std::max<Instant>(0, newest_ - overlap()));
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

/// The file of the table that activity is read from; 0 where it is not known.
std::int64_t Reading::activity_file() const {
    const std::string& name = contract_.activity_name;
    const Oid table = name.empty() ? InvalidOid : table_oid(source_.schema, name);
    return OidIsValid(table) ? filenode_of(table) : 0;
}

std::string Reading::activity_key() const {
    return contract_.activity_name.empty() ? "activity" : contract_.activity_name;
}

/// Whether the table that activity is read from is in another file than the one that was read, or on another
/// server. After a restore of mau's tables, no file is known.
bool Reading::activity_was_replaced() const {
    const pg::Rows row = table_query.read_latest(activity_key(), system_identifier());
    return row.empty() || row.at(0, 0).integer() != activity_file();
}

void Reading::remember_activity_file() const {
    remember(activity_key(), TableState{activity_file(), {}, {}, {}});
}

/// Whether the table has no activity at the reading position or after it.
bool Reading::activity_shrank() const {
    if (!source_.activity_until) return false;
    const Instant from = std::max<Instant>(0, *source_.activity_until - overlap());
    return read(contract_.activity,
                {{INT8OID, from}, {INT8OID, latest_plausible(at_)}, {INT8OID, std::int64_t{1}}})
        .empty();
}

bool Reading::sync(Instant at, std::int64_t max_rows) {
    at_ = at;
    // A position ahead of the clock says nothing about the rows read.
    moves_back_ = source_.activity_until.value_or(0) > now_;
    newest_ = moves_back_ ? 0 : source_.activity_until.value_or(0);
    if (contract_.users_table.empty()) read_users("true");
    if (contract_.threepids_table.empty()) read_threepids("true");
    read_lifted_bans();  // before activity, which counts again
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
        if (replaced && read_days_again()) remember_activity_file();
    }
    const bool all_days = !complete || read_visits();
    flush_skipped();
    keep_progress(newest_ > 0 ? std::optional(newest_) : std::nullopt);
    return complete && all_days;
}

}  // namespace mau::source
