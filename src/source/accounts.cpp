// Reads accounts and threepids into mau's tables.
#include "source/reading.hpp"

#include <set>

#include "activity/registration.hpp"
#include "cohort/leaving.hpp"
#include "pg/values.hpp"

namespace mau::source {

namespace {

constexpr std::size_t kMaxName = 255;  // bytes, as in register_user: it is a part of index keys
// For empty tables of mau: no look-ups, no comparison.
pg::Statement first_threepids_query(
    "WITH w AS (INSERT INTO mau.user_threepids (user_id, medium, address)"
    "  SELECT * FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) n(user_id, medium, address) RETURNING 1)"
    " SELECT (SELECT count(*) FROM w), cardinality($1)",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});
pg::Statement threepids_query(
    "WITH d AS (SELECT DISTINCT ON (n.medium, n.address) n.user_id, n.medium, n.address"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) n(user_id, medium, address)"
    " LEFT JOIN LATERAL (SELECT k.user_id FROM mau.user_threepids k"
    "   WHERE k.medium = n.medium AND k.address = n.address LIMIT 1) o ON true"
    " WHERE o.user_id IS DISTINCT FROM n.user_id ORDER BY n.medium, n.address),"
    " w AS (INSERT INTO mau.user_threepids (user_id, medium, address) SELECT * FROM d"
    "  ON CONFLICT (medium, address) DO UPDATE SET user_id = EXCLUDED.user_id RETURNING 1)"
    " SELECT (SELECT count(*) FROM w), (SELECT count(*) FROM d)",
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});
pg::Statement holders_query(
    "SELECT DISTINCT t.user_id FROM ROWS FROM (unnest($1), unnest($2)) r(medium, address)"
    " JOIN mau.user_threepids t ON t.medium = r.medium AND t.address = r.address",
    {TEXTARRAYOID, TEXTARRAYOID});
pg::Statement lost_threepids_query(
    MAU_DELETE("mau.user_threepids",
               "(d.medium, d.address) IN (SELECT * FROM ROWS FROM (unnest($1), unnest($2)) r)"
               " AND NOT EXISTS (SELECT FROM ROWS FROM (unnest($3), unnest($4)) h(medium, address)"
               "  WHERE h.medium = d.medium AND h.address = d.address)"),
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID});
pg::Statement deactivated_users_query(
    "SELECT u.user_id FROM mau.users u WHERE u.is_deactivated AND u.user_id > $1 ORDER BY u.user_id LIMIT $2",
    {TEXTOID, INT8OID});
// Members among the deactivated users, where $3 is true, and among the locked ones, where $4 is.
pg::Statement leaving_query(
    "SELECT u.user_id FROM mau.users u JOIN mau.monthly_active_users m ON m.user_id = u.user_id"
    " WHERE (u.is_deactivated AND $3 OR u.is_locked AND $4)"
    " AND u.user_id > $1 ORDER BY u.user_id LIMIT $2",
    {TEXTOID, INT8OID, BOOLOID, BOOLOID});

/// A view for an array parameter in which an empty text is NULL.
std::string_view or_null(const pg::Field& field) {
    return field.text().empty() ? std::string_view() : field.text();
}

}  // namespace

/// Notes the first two server names of the accounts, where all should have the same one.
void Reading::note_server_name(std::string_view user_id) {
    if (!contract_.one_server_name || other_server_name_) return;
    const std::string_view name = host_of(user_id);
    if (name.empty() || name == server_name_) return;
    (server_name_ ? other_server_name_ : server_name_) = name;
}

/// Records accounts, rows of the query for users.
void Reading::take_accounts(const pg::Rows& rows) {
    registration::Accounts accounts;
    std::set<std::string_view> met;
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const std::string_view id = rows.at(i, 0).text();
        if (rows.at(i, 0).is_null() || !pg::valid_user_id(id)) {
            skip(contract_.users_table, id.empty() ? "no user id" : "user id is too long or not UTF-8", id);
            continue;
        }
        if (!met.insert(id).second) {
            skip(contract_.users_table, "the same user again", id);
            continue;
        }
        std::optional<Instant> at = rows.at(i, 1).optional_integer();
        if (at && (*at < 0 || *at >= kEndOfTime)) {
            note(contract_.users_table, "registration time is out of range; imported without it", id);
            at.reset();
        }
        note_server_name(id);
        accounts.user_ids.push_back(id);
        accounts.registered_at.push_back(at);
        const std::string_view user_type = beginning(or_null(rows.at(i, 2)), kMaxName),
                               appservice_id = beginning(or_null(rows.at(i, 3)), kMaxName);
        if (user_type.size() < rows.at(i, 2).text().size() ||
            appservice_id.size() < rows.at(i, 3).text().size())
            note(contract_.users_table, "user type or appservice id is too long; it is cut off", id);
        accounts.user_types.push_back(user_type);
        accounts.appservice_ids.push_back(config::stored_appservice(appservice_id));
        accounts.guests.push_back(rows.at(i, 4).boolean());
        accounts.deactivated.push_back(rows.at(i, 5).boolean());
        accounts.locked.push_back(rows.at(i, 6).boolean());
    }
    users +=
        into_empty_ ? registration::take_over_first(accounts) : registration::take_over(config_, accounts);
}

void Reading::read_users(const std::string& where) {
    if (contract_.users.empty()) return;
    read_all(substitute(contract_.users, "where", where), {},
             [&](const pg::Rows& rows) { take_accounts(rows); });
}

void Reading::read_bans(const std::string& where) {
    read_all(substitute(contract_.bans, "where", where), {},
             [&](const pg::Rows& rows) { take_accounts(rows); });
}

/// Reads the accounts again that mau knows as deactivated, because no row shows that a ban has ended.
void Reading::read_lifted_bans() {
    if (contract_.accounts.empty()) return;
    std::string last;
    pg::Scratch scratch;
    for (bool more = true; more;) {
        scratch.run([&] {
            const pg::Rows known = deactivated_users_query.read_latest(last, std::int64_t{kFetch});
            std::vector<std::string_view> ids;
            for (std::uint64_t i = 0; i < known.count; ++i) ids.push_back(known.at(i, 0).text());
            if (!ids.empty()) take_accounts(read(contract_.accounts, {{TEXTARRAYOID, ids}}));
            more = known.count == static_cast<std::uint64_t>(kFetch);
            if (more) last = std::string(ids.back());
        });
        scratch.reset();
    }
    scratch.close();
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
            constexpr std::size_t kLongest =
                1024;  // bytes, of mau.user_threepids; folding can lengthen an address
            const bool usable = pg::valid_user_id(id) && !medium.empty() && medium.size() <= 255 &&
                                !address.empty() && address.size() <= kLongest;
            if (usable) folded.push_back(config::fold_address(medium, address));
            if (!usable || folded.back().size() > kLongest) {
                skip(contract_.threepids_table, "no user, medium or address, or one that is too long", id);
                continue;
            }
            ids.push_back(id);
            mediums.push_back(medium);
            addresses.push_back(folded.back());
        }
        pg::Statement& query = into_empty_ ? first_threepids_query : threepids_query;
        threepids += pg::write_all(query, not_written, "mau.user_threepids", ids, mediums, addresses);
    });
}

/// Reads a whole table into one of mau's. Into an empty table rows are inserted without look-ups; on a
/// duplicate, everything is read again and compared.
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

/// Reads the owners of the reserved threepids: only these are used, and no other query shows that one was
/// removed.
void Reading::check_reserved_threepids() {
    if (config_.reserved.empty() || contract_.holders.empty()) return;
    std::vector<std::string_view> mediums, addresses, holders;
    std::set<std::pair<std::string_view, std::string_view>> asked;
    for (const Threepid& threepid : config_.reserved) {
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
        const auto held = asked.find({medium, config::fold_address(medium, rows.at(i, 2).text())});
        if (held == asked.end()) continue;
        ids.push_back(rows.at(i, 0).text());
        held_mediums.push_back(held->first);
        held_addresses.push_back(held->second);
        asked.erase(held);  // of two spellings only the first, which is the list's
    }
    threepids +=
        pg::write_all(threepids_query, not_written, "mau.user_threepids", ids, held_mediums, held_addresses);
    threepids += pg::delete_all(lost_threepids_query, "mau.user_threepids", mediums, addresses, held_mediums,
                                held_addresses);
}

/// Takes deactivated and locked users out of the cohort who do not count by the settings.
void Reading::leave_deactivated() {
    const bool deactivated = !config_.settings.count_deactivated_users,
               locked = !config_.settings.count_locked_users;
    if (!deactivated && !locked) return;
    std::string last;
    pg::Scratch scratch;
    for (bool more = true; more;) {
        scratch.run([&] {
            const pg::Rows rows = leaving_query.read_latest(last, std::int64_t{kFetch}, deactivated, locked);
            for (std::uint64_t i = 0; i < rows.count; ++i) cohort::remove(config_, rows.at(i, 0).text());
            more = rows.count == static_cast<std::uint64_t>(kFetch);
            if (more) last = rows.at(rows.count - 1, 0).string();
        });
        scratch.reset();
    }
    scratch.close();
}

}  // namespace mau::source
