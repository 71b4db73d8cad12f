// A user counts on both sides, on one, or on none. The server's users are read in batches, and each is looked
// up in mau's tables with the reason why mau would leave the user out; users whom only mau has are counted by
// the hour of their last sighting, because a server prunes old rows.
#include "source/compare.hpp"

#include <algorithm>
#include <map>

namespace mau::source {

namespace {

constexpr const char* kBoth = "both";
constexpr const char* kMissing = "who are missing in mau";
constexpr const char* kUnknown = "whom mau does not know";

// The hours from a sighting to `at`; -1 for those after `written`, which the server need not have written
// yet.
#define MAU_AGE(seen, at, written) \
    "CASE WHEN " seen " > " written " THEN -1 ELSE greatest(0, (" at " - " seen ") / 3600000) END"

// Groups the server's users ($1, last seen $2) by figure, by the reason why mau lacks them (or kBoth), and by
// hours since mau saw them, at $3 (ms). Sightings after $4 (ms) need not have been read yet; $5: whether the
// server's own list of members leaves the user out; $6: whether all seats are taken. A user who is no member
// although mau has seen him after $8 (ms) was not removed by a reap. The query repeats
// the rules of rules/policy in SQL, only to name the reason of a difference, and leaves out the trial days of
// appservices.
pg::Statement tally_query(
    "WITH f AS (SELECT n.user_id, n.seen, n.left_out, m.\"timestamp\" AS member_at,"
    "   greatest(m.\"timestamp\", u.last_seen) AS ours, u.user_no, u.is_guest, u.is_registered,"
    "   u.user_type = 'support' AS support,"
    "   u.is_deactivated AND NOT s.count_deactivated_users AS deactivated,"
    "   u.is_locked AND NOT s.count_locked_users AS locked,"
    "   u.appservice_id <> '' OR coalesce(m.service, 'native') <> 'native' AS bridged,"
    "   n.seen < u.registered_at + coalesce(s.mau_trial_days, 0) * 86400000::int8 AS trial,"
    "   s.limit_usage_by_mau, extract(epoch FROM s.last_seen_granularity) * 1000 AS granularity,"
    "   CASE WHEN NOT (s.limit_usage_by_mau OR s.mau_stats_only) THEN 'while nothing is recorded'"
    "        WHEN n.seen > $4 THEN 'not read yet'"
    "        WHEN n.user_id = '' OR octet_length(n.user_id) > 255 THEN 'without a usable id'"
    "        WHEN mau.host_of(n.user_id) <> s.server_name OR n.user_id LIKE '@:%' AND s.server_name <> ''"
    "        THEN 'of another server' END AS not_recorded"
    "  FROM ROWS FROM (unnest($1), unnest($2), unnest($5)) n(user_id, seen, left_out)"
    "  LEFT JOIN mau.monthly_active_users m ON m.user_id = n.user_id LEFT JOIN mau.users u ON u.user_id = "
    "n.user_id"
    "  CROSS JOIN mau.settings s),"
    " g AS (SELECT f.*, coalesce(not_recorded, CASE WHEN user_no IS NULL AND member_at IS NULL THEN 'whom "
    "mau does not know'"
    "   ELSE 'who are missing in mau' END) AS missing FROM f)"
    " SELECT w.figure, w.reason, " MAU_AGE("w.seen", "$3", "$7") ", count(*) FROM g, LATERAL (VALUES"
    "  ('month', CASE WHEN g.seen <= $3 - 2592000000 THEN NULL WHEN g.ours > $3 - 2592000000 THEN 'both'"
    "     WHEN g.seen - g.ours <= g.granularity THEN 'seen again within last_seen_granularity'"
    "     ELSE g.missing END, g.ours),"
    "  ('day', CASE WHEN g.seen <= $3 - 86400000 THEN NULL WHEN g.ours > $3 - 86400000 THEN 'both'"
    "     WHEN g.seen - g.ours <= g.granularity THEN 'seen again within last_seen_granularity'"
    "     ELSE g.missing END, g.ours),"
    "  ('counted', CASE WHEN g.seen < $3 - 2592000000 THEN NULL"
    "     WHEN g.member_at >= $3 - 2592000000 AND g.bridged IS NOT TRUE THEN 'both'"
    "     WHEN g.bridged THEN 'of bridges, who take no seat'"
    "     WHEN g.is_guest THEN 'guests' WHEN g.support THEN 'support users'"
    "     WHEN g.deactivated THEN 'deactivated' WHEN g.locked THEN 'locked' WHEN g.trial THEN 'in trial'"
    "     WHEN g.not_recorded IS NULL AND g.is_registered IS NOT TRUE"
    "       AND EXISTS (SELECT FROM mau.appservices a WHERE a.sender = g.user_id OR EXISTS"
    "       (SELECT FROM unnest(a.exclusive_user_regexes) r(pattern)"
    "        WHERE regexp_instr(g.user_id COLLATE \"C\", r.pattern) = 1))"
    "       THEN 'of bridges, who take no seat'"
    "     WHEN g.not_recorded IS NULL AND g.limit_usage_by_mau AND $6 AND g.ours > $3 - 2592000000"
    "       THEN 'for whom max_mau_value left no seat'"
    "     WHEN g.ours < $3 - 2592000000 AND g.seen - g.ours <= g.granularity"
    "       THEN 'seen again within last_seen_granularity'"
    "     WHEN g.left_out AND g.ours >= $3 - 2592000000 THEN 'whom the server''s own list of members leaves "
    "out'"
    "     WHEN g.not_recorded IS NULL AND g.ours >= greatest($3 - 2592000000, $8)"
    "       AND g.seen - g.ours <= g.granularity"
    "       THEN 'who did not count or had no seat when mau saw them; the next reconcile adds them'"
    "     ELSE g.missing END, g.ours)) w(figure, reason, seen) WHERE w.reason IS NOT NULL GROUP BY 1, 2, 3",
    {TEXTARRAYOID, INT8ARRAYOID, INT8OID, INT8OID, BOOLARRAYOID, BOOLOID, INT8OID, INT8OID});

// mau's own users, in the same groups without a reason.
pg::Statement ours_query(
    "WITH f AS (SELECT m.\"timestamp\" AS member_at, greatest(m.\"timestamp\", u.last_seen) AS ours,"
    "   u.appservice_id <> '' OR coalesce(m.service, 'native') <> 'native' AS bridged"
    "  FROM mau.monthly_active_users m FULL JOIN mau.users u ON u.user_id = m.user_id"
    "  WHERE m.user_id IS NOT NULL OR u.user_id IS NOT NULL)"
    " SELECT w.figure, " MAU_AGE("f.ours", "$1", "$2") ", count(*) FROM f, LATERAL (VALUES"
    "  ('month', f.ours > $1 - 2592000000), ('day', f.ours > $1 - 86400000),"
    "  ('counted', f.member_at >= $1 - 2592000000 AND f.bridged IS NOT TRUE)) w(figure, holds)"
    " WHERE w.holds GROUP BY 1, 2",
    {INT8OID, INT8OID});
#undef MAU_AGE

// The number of forgotten users, that of reserved users, whether all seats are taken at $1 (ms), and before
// which sighting a reap may have removed a member.
pg::Statement known_query(
    "SELECT (SELECT count(*) FROM mau.users u WHERE u.user_id IS NULL),"
    " (SELECT count(*) FROM mau.registered_reserved_users()),"
    " coalesce((SELECT s.limit_usage_by_mau AND s.max_mau_value <= (SELECT count(*) FROM "
    "mau.monthly_active_users m"
    "   WHERE m.service = 'native' AND (m.\"timestamp\" >= $1 - 2592000000"
    "         OR m.user_id IN (SELECT r FROM mau.registered_reserved_users() r))) FROM mau.settings s), "
    "false),"
    " coalesce((SELECT (extract(epoch FROM t.latest_at) * 1000)::int8 - 2592000000 FROM mau.tasks t"
    "   WHERE t.task = 'reap'), 0)",
    {INT8OID});

using Ages = std::map<std::int64_t, std::int64_t>;  // hours since the last sighting, or kNew: users
constexpr std::int64_t kNew = -1;
constexpr Instant kHour = 3'600'000;

/// The tally of one figure.
struct Tally {
    std::map<std::string, Ages> reasons;
    std::int64_t theirs = 0;
    std::optional<Instant> oldest;  // the oldest of the server's sightings
};

std::int64_t total(const Ages& ages) {
    std::int64_t sum = 0;
    for (const auto& [age, users] : ages) sum += users;
    return sum;
}

/// mau's facts that may explain a figure's differences.
struct Facts {
    Ages ours;
    std::int64_t forgotten, reserved;
    bool is_full;
    Instant reaped_until, at, written_until;
    std::string only_ours;          // why users may be on our side only; empty: for no reason
    std::optional<Instant> oldest;  // the oldest activity that the server has kept
};

Comparison judge(std::string figure, const Tally& tally, const Facts& facts) {
    Comparison result{std::move(figure), total(facts.ours), tally.theirs, {}, {}};
    std::int64_t unexplained = 0;
    auto say = [&](std::int64_t users, const std::string& words) {
        if (users > 0)
            result.reason += (result.reason.empty() ? "" : "; ") + std::to_string(users) + " " + words;
    };
    Ages both;
    for (const auto& [reason, ages] : tally.reasons) {
        const std::int64_t users = total(ages);
        if (reason == kBoth) {
            both = ages;
        } else if (reason == kUnknown && users <= facts.forgotten) {
            say(users, "forgotten by mau.forget_user()");
        } else {
            say(users, reason);
            if (reason == kMissing || reason == kUnknown) unexplained += users;
        }
    }
    const std::int64_t oldest =
        facts.oldest ? std::max<Instant>(0, facts.at - *facts.oldest) / kHour : std::int64_t{0};
    std::int64_t unwritten = 0, pruned = 0, more = 0;
    for (const auto& [age, users] : facts.ours) {
        const auto found = both.find(age);
        const std::int64_t surplus = users - (found == both.end() ? 0 : found->second);
        (age == kNew ? unwritten : age >= oldest ? pruned : more) += surplus;
    }
    for (std::int64_t* users : {&unwritten, &pruned, &more}) *users = std::max<std::int64_t>(0, *users);
    if (!facts.only_ours.empty()) {
        say(unwritten + pruned + more, facts.only_ours);
    } else {
        say(unwritten, "in mau only, seen a moment ago");
        say(pruned, "in mau only, because the server has pruned its rows");
        const std::int64_t reserved = std::min(more, facts.reserved);
        say(reserved, "in mau only, who hold a reserved seat");
        say(more - reserved, "in mau only");
        unexplained += more - reserved;
    }
    if (result.reason.empty()) result.reason = "no difference";
    if (unexplained > 0) result.reason += "; " + std::to_string(unexplained) + " of them for no known reason";
    result.unexplained = unexplained;
    return result;
}

/// The comparison of a figure of which the server's side cannot be read.
Comparison unreadable(const std::string& figure, std::optional<std::int64_t> ours,
                      const pg::Trouble& trouble) {
    return {figure, ours, std::nullopt, std::nullopt, "it cannot be read: " + trouble.message};
}

using Tallies = std::map<std::string, Tally>;  // by figure

/// Adds some of the server's users to its figures; `counted`: those whom it counts, at any last sighting.
void add(const pg::Rows& rows, const Reading& reading, const Facts& facts, bool counted, Tallies& tallies) {
    const Instant at = facts.at;
    std::vector<std::string_view> ids;
    std::vector<std::int64_t> seen;
    std::vector<char> left_out;
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        if (rows.at(i, 0).is_null() || rows.at(i, 1).is_null()) continue;
        ids.push_back(rows.at(i, 0).text());
        seen.push_back(rows.at(i, 1).integer());
        left_out.push_back(!counted && rows.at(i, 2).boolean());
        for (auto& [figure, tally] : tallies) {
            const Instant back = figure == "day" ? kDay : kWindow;
            if (!counted && seen.back() <= at - back) continue;
            ++tally.theirs;
            tally.oldest = std::min(tally.oldest.value_or(seen.back()), seen.back());
        }
    }
    const pg::Rows groups = tally_query.read_latest(ids, seen, at, reading.read_for_good(), left_out,
                                                    facts.is_full, facts.written_until, facts.reaped_until);
    for (std::uint64_t i = 0; i < groups.count; ++i) {
        const auto tally = tallies.find(groups.at(i, 0).string());
        if (tally == tallies.end()) continue;
        Ages& ages = tally->second.reasons[groups.at(i, 1).string()];
        ages[groups.at(i, 2).optional_integer().value_or(0)] += groups.at(i, 3).integer();
    }
}

/// Compares the members with those of the server's own cohort table.
Comparison compare_cohort(const Reading& reading, const Facts& facts) {
    const Contract& contract = reading.contract();
    const std::string figure = "monthly active users beside " + contract.cohort_table;
    Tallies tallies{{"counted", {}}};
    const Tally& members = tallies["counted"];
    const auto trouble = pg::attempt(
        [&] {
            reading.read_all(contract.counted, {},
                             [&](const pg::Rows& rows) { add(rows, reading, facts, true, tallies); });
        },
        [](const pg::Trouble& t) { return t.state.compare(0, 2, "42") == 0; });
    if (trouble) return unreadable(figure, total(facts.ours), *trouble);
    if (members.theirs == 0)
        return {figure, total(facts.ours), 0, 0, "it is empty: the server does not keep it"};
    Comparison result = judge(figure, members, facts);
    std::int64_t found = 0;
    for (const auto& [reason, ages] : members.reasons) found += total(ages);
    if (const std::int64_t expired = members.theirs - found; expired > 0)
        result.reason =
            std::to_string(expired) + " expired, which the server has yet to reap; " + result.reason;
    return result;
}

}  // namespace

std::vector<Comparison> compare(Reading& reading, Instant at) {
    const Contract& contract = reading.contract();
    const Instant written_until = at - overlap();
    std::map<std::string, Ages> ours;
    {
        const pg::Rows rows = ours_query.read_latest(at, written_until);
        for (std::uint64_t i = 0; i < rows.count; ++i)
            ours[rows.at(i, 0).string()][rows.at(i, 1).integer()] += rows.at(i, 2).integer();
    }
    const pg::Rows known = known_query.read_latest(at);
    const std::int64_t forgotten = known.at(0, 0).integer(), reserved = known.at(0, 1).integer();
    const bool is_full = known.at(0, 2).boolean();
    const Instant reaped_until = known.at(0, 3).integer();
    std::optional<Instant> oldest;
    const auto facts = [&](const char* figure, const std::string& only_ours) {
        return Facts{ours[figure], forgotten,     reserved,  is_full, reaped_until,
                     at,           written_until, only_ours, oldest};
    };

    Tallies seen{{"month", {}}, {"day", {}}, {"counted", {}}};
    const Facts about_all = facts("month", contract.rows_go);
    reading.read_all(reading.activity_query(at), {{INT8OID, at + kFuture}},
                     [&](const pg::Rows& rows) { add(rows, reading, about_all, false, seen); });
    oldest = seen["month"].oldest;
    std::vector<Comparison> result{
        judge("users seen within 30 days", seen["month"], facts("month", contract.rows_go)),
        judge("users seen within 1 day", seen["day"], facts("day", contract.rows_go)),
        judge("monthly active users beside all users seen", seen["counted"],
              facts("counted", contract.rows_go)),
    };
    if (!contract.visits.empty()) {
        const std::string name = contract.visits_table.empty() ? "visits" : contract.visits_table;
        if (const auto trouble = reading.trouble_with_visits())
            result.push_back(unreadable("days beside " + name, std::nullopt, *trouble));
    }
    if (!contract.counted.empty())
        result.push_back(compare_cohort(
            reading, facts("counted",
                           "in mau only: the server's own trial, limit or reap left them out, or it has not "
                           "yet written them")));
    return result;
}

}  // namespace mau::source
