#include "bitmap.hpp"

#include "history.hpp"

#include <algorithm>
#include <tuple>

#include "departures.hpp"
#include "pg/values.hpp"
#include "tasks.hpp"

namespace mau::history {

namespace {

constexpr std::size_t kBatch = 262144;  // visits that are sorted at once: 4 MB
constexpr std::size_t kRows = 256;      // bitmaps that are written by one statement: 2 MB
constexpr Day kPostgresEpoch = 10957;   // 2000-01-01

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

// Names need no schema from here on: these are called by fold and attach only, which set search_path.
pg::Statement write_query(
    "INSERT INTO mau.active_days AS d (chunk, day, service, platform, users)"
    " SELECT v.chunk::int4, CASE WHEN v.day = -2147483648 THEN date '-infinity' ELSE date '1970-01-01' + "
    "v.day::int4 END,"
    "        v.service, v.platform::int2, v.users"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5)) v(chunk, day, service, "
    "platform, users)"
    " ON CONFLICT (chunk, day, service, platform) DO UPDATE SET users = EXCLUDED.users",
    {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, BYTEAARRAYOID});
pg::Statement chunks_to_purge_query(
    "WITH RECURSIVE c(chunk) AS (SELECT min(chunk) FROM mau.active_days UNION ALL"
    " SELECT (SELECT min(d.chunk) FROM mau.active_days d WHERE d.chunk > c.chunk) FROM c WHERE c.chunk IS "
    "NOT NULL)"
    " SELECT c.chunk FROM c WHERE EXISTS (SELECT FROM mau.active_days d"
    "   WHERE d.chunk = c.chunk AND d.day > '-infinity' AND d.day < $1)",
    {DATEOID});
pg::Statement purge_query(
    "DELETE FROM mau.active_days d WHERE d.chunk = $1 AND d.day > '-infinity' AND d.day < $2"
    " RETURNING d.service, d.platform::int4, d.users, d.day - date '1970-01-01'",
    {INT4OID, DATEOID});
pg::Statement retention_query(
    "SELECT (to_timestamp($1 / 1000.0) AT TIME ZONE 'UTC' - history_retention)::date - date '1970-01-01'"
    " FROM mau.settings",
    {INT8OID});

std::string_view bytes_of(Datum datum) {
    const auto* value = reinterpret_cast<const varlena*>(DatumGetPointer(datum));
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

namespace visits {
enum Column { user_no, day, platform, service };  // of mau.visits
}

constexpr int kUsers = 4;  // the column of mau.active_days

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
    Datum const stored = slot->tts_values[kUsers];
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

bool can_mark(const World& world) {
    return pg::try_table_lock(world.visits_table, RowExclusiveLock);
}

namespace {

/// Appends the visits whose user has a number, without a statement; false where that is not possible.
bool append(const World& world, const Visit* visits, std::size_t count) {
    return pg::guard([&] {
        Relation const table = table_open(world.visits_table, RowExclusiveLock);
        const bool possible = pg::writable_directly(table, pg::Known(), ACL_INSERT);
        if (possible) {
            pg::Appender rows;
            rows.open(table);
            for (std::size_t i = 0; i < count; ++i) {
                const Visit& visit = visits[i];
                if (visit.user_no == kNoNumber) continue;
                Datum* const row = rows.row();
                row[visits::user_no] = Int64GetDatum(visit.user_no);
                row[visits::day] = DateADTGetDatum(to_date_datum(visit.day));
                row[visits::platform] = Int16GetDatum(static_cast<int16>(visit.platform));
                row[visits::service] = PointerGetDatum(
                    cstring_to_text_with_len(visit.service.data(), static_cast<int>(visit.service.size())));
            }
            rows.close();
            pg::end_command();
        }
        table_close(table, NoLock);
        return possible;
    });
}

}  // namespace

void mark(const World& world, const std::vector<Visit>& visits) {
    struct Columns {
        std::vector<std::int64_t> user_nos, days, platforms;
        std::vector<std::string_view> user_ids, services;
    } known, unknown;
    const bool appended = append(world, visits.data(), visits.size());
    for (const Visit& visit : visits) {
        const bool by_number = visit.user_no != kNoNumber;
        if (by_number && appended) continue;
        Columns& columns = by_number ? known : unknown;
        columns.user_nos.push_back(visit.user_no);
        columns.user_ids.push_back(visit.user_id);
        columns.days.push_back(visit.day);
        columns.platforms.push_back(static_cast<int>(visit.platform));
        columns.services.push_back(visit.service);
    }
    if (!known.user_nos.empty())
        mark_many_query.write(known.user_nos, known.days, known.platforms, known.services);
    if (!unknown.user_ids.empty())
        mark_by_id_query.write(unknown.user_ids, unknown.days, unknown.platforms, unknown.services);
}

// --- Folding
// -----------------------------------------------------------------------------------------------------

Folder::Folder(const World& world) : world_(world) {
    visits_.reserve(1024);
}

std::uint16_t Folder::number_of(std::string_view service) {
    for (std::size_t i = 0; i < services_.size(); ++i)
        if (services_[i] == service) return static_cast<std::uint16_t>(i);
    if (services_.size() > UINT16_MAX) throw Error(sqlstate::internal_error, "too many services");
    services_.emplace_back(service);
    return static_cast<std::uint16_t>(services_.size() - 1);
}

void Folder::add(std::int64_t user_no, Day day, Platform platform, std::string_view service) {
    visits_.push_back({chunk_of(user_no), day, number_of(service), static_cast<std::uint16_t>(platform),
                       place_of(user_no)});
    if (visits_.size() >= kBatch) flush();
}

void Folder::flush() {
    std::sort(visits_.begin(), visits_.end(), [](const Visit& a, const Visit& b) {
        return std::tie(a.chunk, a.day, a.service, a.platform, a.place) <
               std::tie(b.chunk, b.day, b.service, b.platform, b.place);
    });
    auto users = std::make_unique<bitmap::Bits>();
    for (auto first = visits_.begin(); first != visits_.end();) {
        users->clear();
        auto next = first;
        for (; next != visits_.end() && next->same_bitmap(*first); ++next) users->set(next->place);
        merge(first->chunk, first->day, services_[first->service], first->platform, *users);
        first = next;
    }
    visits_.clear();
    write();
}

/// Unites users with the bitmap that is there; what changes is written.
void Folder::merge(std::int32_t chunk, Day day, std::string_view service, int platform,
                   const bitmap::Bits& users) {
    const std::uint16_t key = bitmap::key_of(static_cast<std::uint64_t>(chunk));
    auto united = std::make_unique<bitmap::Bits>(users);
    struct Old {
        std::uint32_t users = 0;
        char trouble[200] = "";
    };
    const Old old = pg::guard([&]() -> Old {
        CHECK_FOR_INTERRUPTS();
        Old result;
        ScanKeyData keys[4];
        bitmap_keys(keys, chunk, day, service, platform);
        PushActiveSnapshot(GetLatestSnapshot());
        pg::IndexWalk walk;
        walk.open(world_.days_table, world_.days_index);
        walk.begin(GetActiveSnapshot(), keys, 4);
        if (TupleTableSlot* const slot = walk.next())
            result = look_at(slot, [&](const void* data, std::size_t size) {
                Old row;
                try {
                    row.users = bitmap::decode(data, size, key, *united);
                } catch (const bitmap::CorruptBitmap& error) {
                    strlcpy(row.trouble, error.what(), sizeof row.trouble);
                }
                return row;
            });
        walk.end();
        walk.close();
        PopActiveSnapshot();
        return result;
    });
    if (old.trouble[0]) corrupt(service, platform, day, chunk, old.trouble);
    const std::uint32_t after = united->count();
    if (after == old.users) return;
    if (day != kBefore) marked += after - old.users;
    const std::size_t end = bytes_.size();
    bytes_.resize(end + bitmap::encoded_size(after));
    bitmap::encode(*united, key, bytes_.data() + end);
    ends_.push_back(bytes_.size());
    chunks_.push_back(chunk);
    days_.push_back(day);
    platforms_.push_back(platform);
    row_services_.push_back(services_[number_of(service)]);
    if (chunks_.size() >= kRows) write();
}

void Folder::write() {
    if (chunks_.empty()) return;
    std::vector<std::string_view> bitmaps;
    std::size_t begin = 0;
    for (const std::size_t end : ends_) {
        bitmaps.emplace_back(reinterpret_cast<const char*>(bytes_.data()) + begin, end - begin);
        begin = end;
    }
    MemoryContext const context = pg::guard([] {
        MemoryContext const own =
            AllocSetContextCreate(CurrentMemoryContext, "mau bitmaps", ALLOCSET_DEFAULT_SIZES);
        MemoryContextSwitchTo(own);
        return own;
    });
    write_query.write(chunks_, days_, row_services_, platforms_, pg::Param::bytes(bitmaps));
    pg::guard([&] { MemoryContextDelete(context); });  // SPI went back to a context of its own
    rows += static_cast<std::int64_t>(chunks_.size());
    chunks_.clear(), days_.clear(), platforms_.clear(), row_services_.clear(), bytes_.clear(), ends_.clear();
}

std::int64_t Folder::take_visits(std::int64_t max_rows) {
    using namespace visits;
    flush();
    std::int64_t taken = 0;
    while (taken < max_rows) {
        const auto room = static_cast<std::int64_t>(kBatch - 1);
        const std::int64_t limit = std::min(room, max_rows - taken);
        const std::int64_t met = pg::guard([&]() -> std::int64_t {
            std::int64_t count = 0;
            AclResult const rights =
                pg_class_aclcheck(world_.visits_table, GetUserId(), ACL_SELECT | ACL_DELETE);
            if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, "visits");
            CommandId const command = GetCurrentCommandId(true);
            Relation const table = table_open(world_.visits_table, RowExclusiveLock);
            PushActiveSnapshot(GetLatestSnapshot());
            TableScanDesc const scan = table_beginscan(table, GetActiveSnapshot(), 0, nullptr);
            TupleTableSlot* const slot = table_slot_create(table, nullptr);
            while (count < limit && table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
                CHECK_FOR_INTERRUPTS();
                slot_getallattrs(slot);
                TM_FailureData failure;
                if (table_tuple_delete(table, &slot->tts_tid, command, GetActiveSnapshot(), InvalidSnapshot,
                                       true, &failure, false) != TM_Ok)
                    continue;  // somebody's DELETE by hand was faster
                const std::int64_t number = DatumGetInt64(slot->tts_values[user_no]);
                visits_.push_back(
                    {chunk_of(number), from_date_datum(DatumGetDateADT(slot->tts_values[day])),
                     number_of(bytes_of(PointerGetDatum(pg_detoast_datum_packed(
                         reinterpret_cast<varlena*>(DatumGetPointer(slot->tts_values[service])))))),
                     static_cast<std::uint16_t>(DatumGetInt16(slot->tts_values[platform])),
                     place_of(number)});
                ++count;
            }
            ExecDropSingleTupleTableSlot(slot);
            table_endscan(scan);
            PopActiveSnapshot();
            table_close(table, NoLock);
            CommandCounterIncrement();
            return count;
        });
        flush();
        taken += met;
        if (met < limit) break;
    }
    return taken;
}

std::int64_t Folder::purge(Day first) {
    flush();
    const int date = to_date_datum(first);
    const pg::Rows chunks = chunks_to_purge_query.read_latest(date);
    std::int64_t purged = 0;
    for (std::uint64_t i = 0; i < chunks.count; ++i) {
        const std::int32_t chunk = chunks.at(i, 0).int4();
        const pg::Rows rows = purge_query.write(chunk, date);
        std::vector<std::pair<std::pair<std::string, int>, std::unique_ptr<bitmap::Bits>>> before;
        for (std::uint64_t r = 0; r < rows.count; ++r) {
            const std::pair<std::string, int> key(rows.at(r, 0).string(), rows.at(r, 1).int4());
            auto known =
                std::find_if(before.begin(), before.end(), [&](const auto& b) { return b.first == key; });
            if (known == before.end()) {
                before.emplace_back(key, std::make_unique<bitmap::Bits>());
                known = std::prev(before.end());
                known->second->clear();
            }
            const std::string_view bytes = bytes_of(rows.at(r, 2).datum());
            try {
                bitmap::decode(bytes.data(), bytes.size(), bitmap::key_of(static_cast<std::uint64_t>(chunk)),
                               *known->second);
            } catch (const bitmap::CorruptBitmap& error) {
                corrupt(key.first, key.second, rows.at(r, 3).int4(), chunk, error.what());
            }
        }
        for (const auto& [key, users] : before) merge(chunk, kBefore, key.first, key.second, *users);
        purged += static_cast<std::int64_t>(rows.count);
    }
    write();
    return purged;
}

}  // namespace mau::history

namespace mau {
namespace {

Datum fold(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Instant at = args.instant(0);
    const std::int64_t max_rows = args.integer(1).value_or(PG_INT64_MAX);
    if (max_rows <= 0)
        throw Error(sqlstate::invalid_parameter, "max_rows must be positive",
                    "It is " + std::to_string(max_rows) + ".", "Leave it out for no limit.");
    pg::ResultSet result(fcinfo);
    const tasks::Task task("fold");
    if (!task.begin()) {
        result.add({"busy", std::int64_t{0}});
        return Datum(0);
    }
    pg::with_spi([&] {
        history::Folder folder(directory::world());
        const std::int64_t visits = folder.take_visits(max_rows);
        // A fold for a time to come must not purge the present.
        const Instant now = std::min(at, pg::to_instant(GetCurrentTimestamp()));
        const pg::Rows first = history::retention_query.read_latest(now);
        const std::int64_t purged =
            first.empty() || first.at(0, 0).int4() <= 0 ? 0 : folder.purge(first.at(0, 0).int4());
        const std::int64_t settled = visits < max_rows ? departures::settle(max_rows - visits) : 0;
        task.end(visits + purged + settled);
        result.add({"visits", visits});
        result.add({"bitmaps", folder.rows});
        result.add({"purged", purged});
        result.add({"settled", settled});
        if (visits + settled >= max_rows) result.add({"more", std::int64_t{1}});
    });
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_fold, fold);

}  // namespace mau
