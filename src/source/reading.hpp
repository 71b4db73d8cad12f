// One reading of a homeserver's tables, for attach, sync, reconcile and compare. The parts are in reading.cpp
// (locks, rights, skipped rows), import.cpp, sync.cpp, accounts.cpp, reconcile.cpp and visits.cpp.
//
// Rows are read in batches, with the rights of rule R10. The reading position is written in the transaction
// that records the rows, so a sync can be stopped anywhere and continues there.
#pragma once

#include "rules/policy.hpp"

#include <map>
#include <optional>

#include "activity/activity.hpp"
#include "source/custom.hpp"
#include "source/reader.hpp"

namespace mau::source {

/// The row of mau.source.
struct Source {
    std::string kind, schema, attached_by;
    std::optional<Instant> activity_until, pass_from;  // the first is the reading position
    std::optional<std::int64_t> visits_until;          // a day
    Instant synced_at = 0;
    // Of the accounts that were read, where a homeserver has one name only.
    std::optional<std::string> server_name, other_server_name;
    std::map<std::string, std::string> queries;  // of a custom source
};

/// The source that mau is attached to; nothing without one.
std::optional<Source> attached();

inline constexpr long kFetch = 4096;      // rows that are read at once
inline constexpr Instant kFuture = kDay;  // how far ahead a homeserver's clock may be

/// An identifier as SQL wants it.
std::string quoted(const std::string& identifier);

/// A table of a schema; InvalidOid where there is none.
Oid table_oid(const std::string& schema, const std::string& table);

/// The time before the last activity that was read at which each sync begins (mau.sync_overlap).
Instant overlap();

/// The latest plausible time of a row: a homeserver's clock may be ahead, and `at` may be in the past.
Instant latest_plausible(Instant at);

/// The beginning of a text, at most so many bytes of whole characters.
std::string_view beginning(std::string_view text, std::size_t most);

/// The function that makes the contract of a kind of homeserver. Errors: 22023 for an unknown kind.
MakeContract maker(std::string_view kind);

/// The place of a source's tables, and the settings that its kind needs.
Homeserver homeserver_of(const Config& config, const Source& source);

/// One reading of a homeserver's tables.
class Reading {
  public:
    Reading(const Config& config, const Source& source)
        : config_(config),
          source_(source),
          homeserver_(homeserver_of(config, source)),
          contract_(maker(source.kind)(homeserver_)),
          server_name_(source.server_name),
          other_server_name_(source.other_server_name) {}

    /// Checks that the required tables and columns exist; the error names all that are missing.
    void check_there(const char* hint) const;
    /// Checks that the caller may read them; the error names all that the caller may not read, and the GRANT.
    void check_rights() const;
    /// Begins: locks the tables against ALTER until the end of the transaction, takes the mark and pushes a
    /// fresh snapshot, which `done` pops.
    void begin();
    void done() {
        if (parsed_) parsed_->close();
        pg::guard([] { PopActiveSnapshot(); });
    }
    /// Makes the table `sightings` of the rows of a contract's `unparsed`, for the queries that read it.
    void parse_sightings(const std::string& where = "true");

    /// Imports everything, for attach.
    void import(Instant at);
    /// Reads new rows up to `at`, about `max_rows` of them. Returns whether it reached the end.
    bool sync(Instant at, std::int64_t max_rows);
    /// Compares all users' newest rows that sync must have read with mau's, and records what is missing.
    void reconcile(Instant at);
    /// The query for the last sightings up to $1 of all users whom the server has seen, for compare: rows
    /// (user_id, last_seen, whether the server's own list of members leaves the user out).
    std::string activity_query(Instant at) {
        at_ = at;
        return "SELECT q.user_id, q.last_seen, q.left_out FROM (" + compared_query() +
               ") q(user_id, last_seen, left_out, is_activity) WHERE q.is_activity";
    }
    /// How the homeserver itself answers requests of a user: rows (rule, holds, detail); none where its kind
    /// does not say.
    pg::Rows answers(std::string_view user_id) const;
    /// The server's own figures, as jsonb.
    Datum usage(Instant at);
    /// The way in which new activity is found, and the tables that every sync reads completely, in words.
    /// After `begin`.
    std::string finds_new_by() const;
    const Contract& contract() const { return contract_; }
    /// The instant up to which all rows were read (ms): a later row may have been committed after the last
    /// sync.
    Instant read_for_good() const { return homeserver_.since; }
    /// Why the role that reads cannot read the homeserver's visits; nothing if it can.
    std::optional<pg::Trouble> trouble_with_visits() const;
    bool has_answers() const { return !contract_.answers.empty(); }
    bool has_usage() const { return !contract_.usage.empty(); }

    using Params = std::vector<std::pair<Oid, pg::Param>>;
    /// Runs a query, and calls `take` for each batch of its rows.
    template <class Take>
    void read_all(const std::string& sql, const Params& params, Take&& take) const;

    /// The reason why an import could not read the homeserver's own record of visits, with the remedy;
    /// nothing if it could.
    struct Obstacle {
        std::string what, detail, hint;
    };
    std::optional<Obstacle> no_visits;
    /// Likewise for its own list of members.
    std::optional<Obstacle> no_cohort;
    /// Likewise for the time zone of times without one.
    std::optional<Obstacle> no_time_zone;

    std::int64_t users = 0, threepids = 0, sightings = 0, skipped = 0;
    std::int64_t visits = 0, new_visits = 0;  // days of users that were read, and were not known
    std::int64_t outcomes[kOutcomes] = {};
    bool compared = false;         // all users' newest rows were compared with mau's,
    std::int64_t differences = 0;  // and for this many mau lacked the sighting or the membership

  private:
    bool readable(const Requirement& need) const;
    void choose_time_zone();
    pg::Rows read(const std::string& sql, const Params& params) const;
    using ReadRows = void (Reading::*)(const std::string& where);
    struct Part {
        const std::string& table;
        ReadRows read_rows;
    };
    std::vector<Part> parts() const;
    void read_changed(const std::vector<Part>& parts);
    void read_table(const std::string& table, const std::vector<ReadRows>& readers);
    void remember(const std::string& table, const TableState& state) const;
    void fill(pg::Statement& is_empty, ReadRows read_rows);
    void read_users(const std::string& where);
    void read_bans(const std::string& where);
    void read_lifted_bans();
    void take_accounts(const pg::Rows& rows);
    void note_server_name(std::string_view user_id);
    void read_threepids(const std::string& where);
    void read_activity(const std::string& where);
    bool read_activity_by_time(std::int64_t max_rows);
    std::int64_t activity_file() const;
    std::string activity_key() const;
    bool activity_was_replaced() const;
    void remember_activity_file() const;
    bool activity_shrank() const;
    void record_missed(Instant until);
    void compare_all();
    bool find_later();
    void check_reserved_threepids();
    void leave_deactivated();
    std::optional<Instant> cohort_kept_until(std::optional<Instant> newest);
    void read_last_seen(const std::string& sql, const Params& params, const activity::RecordOptions& members,
                        const activity::RecordOptions& others);
    void record(std::vector<activity::Sighting>& batch, const activity::RecordOptions& options);
    void skip(const std::string& table, const char* reason, std::string_view key);
    void skip_sighting(std::string_view user_id);
    void skip_visit(std::string_view user_id);
    void note(const std::string& table, const char* reason, std::string_view key);
    void note_malformed(const std::string& query);
    Obstacle cannot_read(const std::string& table, const pg::Trouble& trouble,
                         const std::string& known) const;
    void import_visits();
    std::string seen_query() const;
    std::string compared_query();
    bool read_days_again();
    bool read_visits();
    bool read_visits_of_yesterday();
    void flush_skipped();
    void keep_progress(std::optional<Instant> until) const;

    const Config& config_;
    const Source& source_;
    const Homeserver homeserver_;
    const Contract contract_;
    Oid role_ = InvalidOid;                 // the role that reads
    std::optional<std::string> time_zone_;  // of times without one, where the contract has such
    Mark mark_{};
    bool into_empty_ = false;  // rows are new, and need not be compared with what is known
    Instant now_ = 0;          // by the server's clock, as the reading begins
    Instant at_ = 0;           // the instant up to which is read
    Instant newest_ = 0;       // the newest activity that was read and is not ahead of the clock
    bool moves_back_ = false;  // the position found now replaces the old one, even if that was later
    bool use_cohort_ = false;  // members are those of the homeserver's own list
    bool later_ = false;       // changed pages hold activity that is later: they are read again next time
    std::optional<Instant> resume_;
    std::optional<pg::NamedRows> parsed_;  // the table sightings
    std::optional<std::int64_t> visits_until_;
    std::optional<std::string> server_name_, other_server_name_;
    std::vector<std::string> skipped_tables_, skipped_reasons_, skipped_keys_;
};

template <class Take>
void Reading::read_all(const std::string& sql, const Params& params, Take&& take) const {
    std::optional<ReadAs> reader(std::in_place, role_, time_zone_);
    pg::Cursor cursor(sql, params);
    for (;;) {
        const pg::Rows rows = cursor.fetch(kFetch);
        reader->done();
        if (rows.empty()) break;
        cursor.with_batch([&] { take(rows); });
        pg::guard([] { CHECK_FOR_INTERRUPTS(); });
        reader.emplace(role_, time_zone_);
    }
    cursor.close();
}

}  // namespace mau::source
