#include "bitmap.hpp"

#include "history.hpp"

#include <algorithm>
#include <tuple>

#include "pg/values.hpp"
#include "tasks.hpp"

namespace mau::history {

namespace {

constexpr Day kPostgresEpoch = 10957;  // 2000-01-01

pg::Statement mark_query("INSERT INTO mau.visits (user_no, day, platform, service) VALUES ($1, $2, $3, $4)",
                         {INT8OID, DATEOID, INT2OID, TEXTOID});
#define MAU_DAY(column) "pg_catalog.date_pli('1970-01-01'::pg_catalog.date, " column "::pg_catalog.int4)"
pg::Statement mark_many_query(
    "INSERT INTO mau.visits (user_no, day, platform, service)"
    " SELECT v.user_no, " MAU_DAY("v.day") ", v.platform::pg_catalog.int2, v.service"
    " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))"
    " v(user_no, day, platform, service)",
    {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID});
pg::Statement mark_by_id_query(
    "INSERT INTO mau.visits (user_no, day, platform, service)"
    " SELECT u.user_no, " MAU_DAY("v.day") ", v.platform::pg_catalog.int2, v.service"
    " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))"
    " v(user_id, day, platform, service) JOIN mau.users u ON u.user_id OPERATOR(pg_catalog.=) v.user_id",
    {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID});
#undef MAU_DAY

namespace days {
enum Column { chunk, day, platform, service, users };  // of mau.active_days
}

/// The keys of one bitmap, for its index. Inside a guard only.
void bitmap_keys(ScanKeyData* keys, std::int32_t chunk, Day day, std::string_view service, int platform) {
    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk));
    ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_DATE_EQ, DateADTGetDatum(to_date_datum(day)));
    ScanKeyEntryInitialize(
        &keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
        PointerGetDatum(cstring_to_text_with_len(service.data(), static_cast<int>(service.size()))));
    ScanKeyInit(&keys[3], 4, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(static_cast<int16>(platform)));
}

/// Answers what `look` does of a row's bitmap; inside a guard only.
template <class Look>
auto look_at(TupleTableSlot* slot, Look&& look) {
    Datum const stored = slot->tts_values[days::users];
    auto* const value = pg_detoast_datum(reinterpret_cast<varlena*>(DatumGetPointer(stored)));
    auto const result = look(VARDATA(value), static_cast<std::size_t>(VARSIZE(value) - VARHDRSZ));
    if (value != reinterpret_cast<varlena*>(DatumGetPointer(stored))) pfree(value);
    return result;
}

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

void Marks::open(const World& world) {
    pg::guard([&] {
        visits_.open(world.visits_table, world.visits_index);
        days_.open(world.days_table, world.days_index);
    });
}

bool Marks::has(std::int64_t user_no, Day day, Platform platform, std::string_view service) {
    const int number = static_cast<int>(platform);
    const std::uint16_t key = bitmap::key_of(static_cast<std::uint64_t>(chunk_of(user_no)));
    return pg::guard([&] {
        bool found = false;
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        ScanKeyData keys[4];
        ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(user_no));
        ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_DATE_EQ, DateADTGetDatum(to_date_datum(day)));
        ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(static_cast<int16>(number)));
        visits_.begin(&dirty, keys, 3);
        while (!found && visits_.next()) found = !TransactionIdIsValid(dirty.xmin);
        visits_.end();
        if (found) return true;

        // After the visits: what fold takes from there is here by then. A corrupt bitmap is for the questions
        // to complain about; recording goes on.
        bitmap_keys(keys, chunk_of(user_no), day, service, number);
        days_.begin(&dirty, keys, 4);
        while (TupleTableSlot* const slot = days_.next())
            if (!TransactionIdIsValid(dirty.xmin))
                found = look_at(slot, [&](const void* data, std::size_t size) {
                    return bitmap::contains(data, size, key, place_of(user_no));
                });
        days_.end();
        return found;
    });
}

void Marks::close() {
    pg::guard([&] {
        days_.close();
        visits_.close();
    });
}

bool can_mark(const World& world) {
    return pg::try_table_lock(world.visits_table, RowExclusiveLock) && pg::try_read_lock(world.days_table);
}

void Visits::write() const {
    if (user_nos.size() == 1)
        mark_query.write(user_nos[0], static_cast<int>(to_date_datum(static_cast<Day>(days[0]))),
                         static_cast<int>(platforms[0]), services[0]);
    else if (!user_nos.empty())
        mark_many_query.write(user_nos, days, platforms, services);
    if (!user_ids.empty()) mark_by_id_query.write(user_ids, id_days, id_platforms, id_services);
}

}  // namespace mau::history
