#include "history/history.hpp"

#include "pg/locks.hpp"

namespace mau::history {

namespace {

constexpr Day kPostgresEpoch = 10957;  // 2000-01-01

#define MAU_DAY(column) "date '1970-01-01' + " column "::int4"
pg::Statement mark_many_query(
    "INSERT INTO mau.visits (user_no, day, platform, service)"
    " SELECT v.user_no, " MAU_DAY("v.day") ", v.platform::int2, v.service"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4)) v(user_no, day, platform, service)",
    {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID});
pg::Statement mark_by_id_query(
    "INSERT INTO mau.visits (user_no, day, platform, service)"
    " SELECT u.user_no, " MAU_DAY("v.day") ", v.platform::int2, v.service"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4))"
    " v(user_id, day, platform, service) JOIN mau.users u ON u.user_id = v.user_id",
    {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID});
#undef MAU_DAY

}  // namespace

DateADT to_date_datum(Day day) {
    return day == kBefore ? DATEVAL_NOBEGIN : day - kPostgresEpoch;
}

Day from_date_datum(DateADT date) {
    return DATE_IS_NOBEGIN(date) ? kBefore : date + kPostgresEpoch;
}

void corrupt(std::string_view service, int platform, Day day, std::int32_t chunk, const char* what) {
    const bool known = platform >= 0 && platform < kPlatforms;
    throw Error(
        sqlstate::data_corrupted, "corrupt bitmap in mau.active_days",
        "Service " + std::string(service) + ", platform " +
            (known ? name(static_cast<Platform>(platform)) : std::to_string(platform)) + ", day " +
            (day == kBefore              ? "-infinity"
             : day < 0 || day > kLastDay ? std::to_string(day)
                                         : day_label(day)) +
            ", chunk " + std::to_string(chunk) + ": " + what + ".",
        "Restore the row from a backup, or delete it: the figures then lack the visits that were in it.");
}

bool can_mark(const Config& config) {
    return pg::try_lock_with_indexes(config.visits_table, RowExclusiveLock);
}

void mark(const std::vector<Visit>& visits) {
    struct Columns {
        std::vector<std::int64_t> user_nos, days, platforms;
        std::vector<std::string_view> user_ids, services;
    } known, unknown;
    if (visits.empty()) return;
    for (const Visit& visit : visits) {
        Columns& columns = visit.user_no != kNoNumber ? known : unknown;
        columns.user_nos.push_back(visit.user_no);
        columns.user_ids.push_back(visit.user_id);
        columns.days.push_back(visit.day);
        columns.platforms.push_back(static_cast<int>(visit.platform));
        columns.services.push_back(visit.service);
    }
    // The user's row may say already that the visits are in the history.
    if (!known.user_nos.empty() &&
        mark_many_query.write(known.user_nos, known.days, known.platforms, known.services).count <
            known.user_nos.size())
        throw not_written("mau.visits");
    if (!unknown.user_ids.empty() &&
        mark_by_id_query.write(unknown.user_ids, unknown.days, unknown.platforms, unknown.services).count <
            unknown.user_ids.size())
        throw Error(sqlstate::serialization_failure, "a user's row is missing");
}

}  // namespace mau::history
