#include "source/visits.hpp"

#include <unordered_map>

#include "pg/values.hpp"
#include "source/reading.hpp"
#include "tasks/tasks.hpp"

namespace mau::source {

namespace {

constexpr std::int64_t kBad = -2;             // instead of a user's number: the row has no usable user id
constexpr std::int64_t kLeastUsers = 100000;  // room in any case, for users who are new: 2.4 MB
constexpr Instant kSettled = 600000;  // after midnight homeservers still store visits of the day before

pg::Statement number_query(
    "INSERT INTO mau.users (user_id) SELECT * FROM unnest($1) ON CONFLICT (user_id) DO NOTHING",
    {TEXTARRAYOID});

pg::Statement last_number_query("SELECT coalesce(max(u.user_no), 0) FROM mau.users u");

pg::Statement mended_query(
    "DELETE FROM mau.source_skipped WHERE table_name = $1 AND reason LIKE 'cannot be read: %'", {TEXTOID});

/// The rows of users as they are now.
std::vector<pg::Found> find(const Config& config, const std::vector<std::string_view>& ids) {
    std::vector<pg::Found> rows;
    rows.reserve(ids.size());
    pg::KeyedTable users;
    users.open(config.users_table, config.users_index, kUsersIndex);
    for (const std::string_view id : ids) rows.push_back(users.find(pg::text_datum(id)));
    users.close();
    return rows;
}

/// The last day that is over at an instant, and of which the homeserver has stored all visits.
Day settled_day(Instant at) {
    return day_of(std::max<Instant>(at - kSettled, kDay)) - 1;
}

}  // namespace

VisitRows::VisitRows(const Config& config, Instant now, UnknownUsers unknown)
    : config_(config),
      unknown_(unknown),
      folder_(config, history::first_kept_day(now)),
      known_(std::max(kLeastUsers, last_number_query.read_latest().at(0, 0).integer())) {
    // Random, so that nobody can register users who have the same hashes.
    pg::guard([&] {
        if (!pg_strong_random(seeds_, sizeof seeds_))
            elog(ERROR, "mau: no random numbers to be had for the table of known users");
    });
}

UserHash VisitRows::hash(std::string_view user_id) const {
    const auto with = [&](std::uint64_t seed) {
        return hash_bytes_extended(reinterpret_cast<const unsigned char*>(user_id.data()),
                                   static_cast<int>(user_id.size()), seed);
    };
    return {with(seeds_[0]), with(seeds_[1])};
}

std::uint32_t VisitRows::place_of_service(std::string_view service) {
    const auto place = places_.find(service);
    if (place != places_.end()) return place->second;
    services_.emplace_back(service);
    return places_.emplace(service, static_cast<std::uint32_t>(services_.size() - 1)).first->second;
}

/// Looks users up in mau.users.
std::vector<KnownUser> VisitRows::look_up(const std::vector<std::string_view>& ids) {
    std::vector<pg::Found> rows = find(config_, ids);
    std::vector<std::string_view> unknown_users;
    for (std::size_t i = 0; i < ids.size(); ++i)
        if (!rows[i].exists && is_local(config_.settings, ids[i])) unknown_users.push_back(ids[i]);
    if (!unknown_users.empty() && unknown_ == UnknownUsers::add) {
        number_query.write(unknown_users);
        rows = find(config_, ids);
    }
    std::vector<KnownUser> users(ids.size(), KnownUser{-1, 0});
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (!rows[i].exists || !is_local(config_.settings, ids[i])) continue;
        const Account account = config::account(config_, ids[i], rows[i]);
        users[i] = {rows[i].integer(config::users::user_no), place_of_service(config::service(account))};
    }
    return users;
}

void VisitRows::take(const pg::Rows& rows, Instant until, const std::function<void(std::string_view)>& bad) {
    std::vector<std::string_view> unknown;
    std::vector<UserHash> hashes;
    std::vector<KnownUser> of_row(rows.count);
    std::vector<std::pair<std::uint64_t, std::size_t>> missing;  // a row, and its user's place in `unknown`
    std::unordered_map<std::string_view, std::size_t> asked;
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const std::string_view id = rows.at(i, 0).text();
        const UserHash h = hash(id);
        if (const auto user = known_.find(h)) {
            of_row[i] = *user;
            continue;
        }
        if (!pg::valid_user_id(id)) {
            bad(id);
            of_row[i].number = kBad;
            continue;
        }
        const auto [place, is_new] = asked.emplace(id, unknown.size());
        if (is_new) unknown.push_back(id), hashes.push_back(h);
        missing.emplace_back(i, place->second);
    }
    if (!unknown.empty()) {
        const std::vector<KnownUser> users = look_up(unknown);
        for (std::size_t i = 0; i < users.size(); ++i) known_.add(hashes[i], users[i]);
        for (const auto& [row, place] : missing) of_row[row] = users[place];
    }
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const pg::Field at = rows.at(i, 1);
        if (of_row[i].number == kBad || at.is_null() || at.integer() < 0 || at.integer() > until) continue;
        ++taken;
        if (of_row[i].number >= 0)
            folder_.add(of_row[i].number, day_of(at.integer()), platform_of(rows.at(i, 2).text()),
                        services_[of_row[i].service]);
    }
}

void Reading::skip_visit(std::string_view user_id) {
    skip(contract_.visits_table.empty() ? "visits" : contract_.visits_table,
         "no user id, or one that is too long or not UTF-8", user_id);
}

std::optional<pg::Trouble> Reading::trouble_with_visits() const {
    return pg::attempt(
        [&] {
            read("SELECT FROM (" + contract_.visits + ") v LIMIT 0",
                 {{INT8OID, std::int64_t{0}}, {INT8OID, std::int64_t{0}}});
        },
        is_lasting);
}

/// Takes the homeserver's record of visits into the history, and the day of each sighting that is still
/// there.
void Reading::import_visits() {
    if (!recording(config_.settings)) return;
    const Instant until = at_ + kFuture;
    VisitRows rows_taken(config_, std::min(at_, pg::to_instant(GetCurrentTimestamp())),
                         VisitRows::UnknownUsers::add);
    if (contract_.visits.empty()) {
        if (!contract_.visits_table.empty())
            no_visits = {"there is no " + contract_.visits_table + " to read the past from", {}, {}};
    } else if (const auto trouble = trouble_with_visits()) {
        no_visits = cannot_read(contract_.visits_table, *trouble, "history begins with the sightings");
    } else {
        read_all(contract_.visits, {{INT8OID, std::int64_t{0}}, {INT8OID, until}}, [&](const pg::Rows& rows) {
            rows_taken.take(rows, until, [&](std::string_view id) { skip_visit(id); });
        });
        note_malformed(contract_.malformed_visits);
        visits_until_ = settled_day(std::min(at_, now_));
    }
    // Rows without a usable user were counted when the last sightings were read.
    const auto take = [&](const pg::Rows& rows) { rows_taken.take(rows, until, [](std::string_view) {}); };
    if (contract_.activity_table.empty())
        read_all(contract_.activity,
                 {{INT8OID, std::int64_t{0}}, {INT8OID, until}, {INT8OID, std::int64_t{PG_INT64_MAX}}}, take);
    else
        read_all(substitute(contract_.activity, "where", "true"), {}, take);
    // Members whose activity was pruned were active on the day of their last sighting.
    if (use_cohort_ && !visits_until_)
        read_all(
            "SELECT s.user_id, s.last_seen, NULL::text FROM " + seen_query() + " WHERE NOT s.is_activity",
            {{INT8OID, until}}, take);
    rows_taken.done();
    visits = rows_taken.taken;
    new_visits = rows_taken.marked();
}

/// Takes the days and clients of the window's activity into the history, after the table of activity was
/// replaced: its rows may never have been read. A damaged bitmap is not noted here, because fold reports it.
/// Returns false where it has to be tried again.
bool Reading::read_days_again() {
    if (!recording(config_.settings)) return true;
    if (!tasks::Task(history::kFoldTask).begin()) return false;
    const auto trouble = pg::attempt([&] {
        const Instant until = std::min(at_, now_);
        // Unknown users were forgotten.
        VisitRows rows_taken(config_, until, VisitRows::UnknownUsers::skip);
        read_all(contract_.activity,
                 {{INT8OID, std::max<Instant>(0, at_ - kWindow)},
                  {INT8OID, until},
                  {INT8OID, std::int64_t{PG_INT64_MAX}}},
                 [&](const pg::Rows& rows) { rows_taken.take(rows, until, [](std::string_view) {}); });
        rows_taken.done();
    });
    return !(trouble && pg::is_concurrency(*trouble));
}

/// Reads one finished day of the homeserver's visits. An error does not stop sightings: the next sync tries
/// the day again. A damaged bitmap is not noted here, because fold reports it. Returns whether there is no
/// further such day.
bool Reading::read_visits() {
    bool last = true;
    const auto trouble = pg::attempt([&] { last = read_visits_of_yesterday(); });
    const std::string name = contract_.visits_table.empty() ? "visits" : contract_.visits_table;
    if (!trouble) {
        if (visits_until_) mended_query.write(name);
        return last;
    }
    if (trouble->state != sqlstate::data_corrupted && !pg::is_concurrency(*trouble))
        note(name, ("cannot be read: " + trouble->message).c_str(), {});
    visits = new_visits = 0;
    visits_until_.reset();
    return true;
}

/// Reads the homeserver's record of the first finished day that was not read yet: it has sightings that were
/// overwritten before a sync could read them. Returns whether there is no further such day.
bool Reading::read_visits_of_yesterday() {
    const Day settled = settled_day(std::min(at_, now_));
    Day known = source_.visits_until ? static_cast<Day>(*source_.visits_until) : settled - 1;
    // The clock was ahead once: the days of the window are read again.
    if (known > settled_day(now_)) known = settled - static_cast<Day>(kWindow / kDay) - 1;
    if (contract_.visits.empty() || known >= settled || !recording(config_.settings)) return true;
    if (!tasks::Task(history::kFoldTask).begin()) return true;  // next time
    // Attach has reported it.
    if (const auto trouble = trouble_with_visits();
        trouble && trouble->state == sqlstate::insufficient_privilege && !source_.visits_until)
        return true;
    const Day day = known + 1;
    // Unknown users were forgotten.
    VisitRows rows_taken(config_, std::min(at_, pg::to_instant(GetCurrentTimestamp())),
                         VisitRows::UnknownUsers::skip);
    read_all(contract_.visits, {{INT8OID, day_start(day)}, {INT8OID, day_start(day + 1) - 1}},
             [&](const pg::Rows& rows) {
                 rows_taken.take(rows, day_start(day + 1) - 1, [](std::string_view) {});
             });
    rows_taken.done();
    visits = rows_taken.taken;
    new_visits = rows_taken.marked();
    visits_until_ = day;
    return day >= settled;
}

}  // namespace mau::source
