#include "bitmap/bitmap.hpp"

#include "history/fold.hpp"

#include <algorithm>
#include <tuple>

#include "pg/values.hpp"
#include "tasks/tasks.hpp"

namespace mau::history {

namespace {

constexpr std::size_t kBatch = 524288;  // visits that are sorted at once: 8 MB
constexpr std::size_t kStep = 4096;     // visits that are taken behind one guard
constexpr std::size_t kRows = 32;  // bitmaps that are written by one statement: 256 KB, which caches hold
// The pages that a long queue has left are not given back. Where they are many, and nearly empty as the last
// vacuum found them, the rows are found through the index; else in the order in which they came, which is by
// day.
constexpr BlockNumber kManyBlocks = 1024;
constexpr float kFewRows = 8;             // a page
constexpr std::size_t kMaxService = 255;  // bytes: it is a part of an index's key
constexpr std::int64_t kLastNumber = (std::int64_t{1} << 46) - 1;

// Names need no schema here: these are called by fold, attach and sync only, which set search_path.
pg::Statement write_query(
    "INSERT INTO mau.active_days AS d (chunk, day, service, platform, users)"
    " SELECT v.chunk::int4, CASE WHEN v.day = -2147483648 THEN date '-infinity'"
    "        ELSE date '1970-01-01' + v.day::int4 END, v.service, v.platform::int2, v.users"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5))"
    "   v(chunk, day, service, platform, users)"
    " ON CONFLICT (chunk, day, service, platform) DO UPDATE SET users = EXCLUDED.users",
    {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, BYTEAARRAYOID});
pg::Statement retention_query(
    // A thousand years are for ever, and within what a timestamp can be.
    "SELECT (to_timestamp($1 / 1000.0) AT TIME ZONE 'UTC' - least(history_retention, interval '1000 years'))"
    "::date - date '1970-01-01' FROM mau.settings",
    {INT8OID});

namespace days {
enum Column { chunk, day, platform, service, users };  // of mau.active_days
}
namespace visits {
enum Column { user_no, day, platform, service };  // of mau.visits
}

/// A text of a row, as long as the slot holds the row; inside a guard only.
std::string_view text_of(TupleTableSlot* slot, int column) {
    const auto* value =
        pg_detoast_datum_packed(reinterpret_cast<varlena*>(DatumGetPointer(slot->tts_values[column])));
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

/// What became of decoding a row's bitmap.
struct Decoded {
    std::uint32_t users = 0;
    char trouble[200] = "";
};

/// Adds a row's bitmap to `into`; inside a guard only.
Decoded decode_row(TupleTableSlot* slot, std::int32_t chunk, bitmap::Bits& into) {
    Decoded decoded;
    auto* const stored = reinterpret_cast<varlena*>(DatumGetPointer(slot->tts_values[days::users]));
    varlena* const users = pg_detoast_datum_packed(stored);
    try {
        decoded.users = bitmap::decode(VARDATA_ANY(users), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(users)),
                                       bitmap::key_of(static_cast<std::uint64_t>(chunk)), into);
    } catch (const bitmap::CorruptBitmap& error) {
        strlcpy(decoded.trouble, error.what(), sizeof decoded.trouble);
    }
    if (users != stored) pfree(users);
    return decoded;
}

}  // namespace

Day first_kept_day(Instant at) {
    const pg::Rows rows = retention_query.read_latest(at);
    if (rows.empty() || rows.at(0, 0).int4() <= 0) return kBefore;
    return rows.at(0, 0).int4();
}

Folder::Folder(const Config& config, Day first_kept) : config_(config), first_kept_(first_kept) {}

std::uint32_t Folder::number_of(std::string_view service) {
    const auto known = numbers_.find(service);
    if (known != numbers_.end()) return known->second;
    const auto number = static_cast<std::uint32_t>(services_.size());
    services_.emplace_back(service);
    numbers_.emplace(services_.back(), number);
    return number;
}

Folder::Visit Folder::visit(std::int64_t user_no, Day day, int platform, std::uint32_t service) const {
    if (day < first_kept_) day = kBefore;
    return {std::uint64_t{static_cast<std::uint32_t>(chunk_of(user_no))} << 32 |
                (static_cast<std::uint32_t>(day) ^ 0x80000000U),
            service, static_cast<std::uint16_t>(platform), place_of(user_no)};
}

void Folder::add(std::int64_t user_no, Day day, Platform platform, std::string_view service) {
    visits_.push_back(visit(user_no, day, static_cast<int>(platform), number_of(service)));
    if (visits_.size() >= kBatch) flush();
}

void Folder::flush() {
    std::sort(visits_.begin(), visits_.end(), [](const Visit& a, const Visit& b) {
        return a.chunk_and_day != b.chunk_and_day ? a.chunk_and_day < b.chunk_and_day : a.rest() < b.rest();
    });
    auto users = std::make_unique<bitmap::Bits>();
    for (auto first = visits_.begin(); first != visits_.end();) {
        open();
        for (; first != visits_.end() && chunks_.size() < kRows;) {
            users->clear();
            auto next = first;
            for (; next != visits_.end() && next->same_bitmap(*first); ++next) users->set(next->place);
            merge(first->chunk(), first->day(), first->service, first->platform, *users);
            first = next;
        }
        close_and_write();
    }
    visits_.clear();
}

/// Opens the table of bitmaps as it is now.
void Folder::open() {
    pg::guard([&] {
        PushActiveSnapshot(GetLatestSnapshot());
        walk_.open(config_.days_table, kDaysIndex);
    });
}

/// Unites users with the bitmap that is there; what changes is kept for writing.
void Folder::merge(std::int32_t chunk, Day day, std::uint32_t service, int platform,
                   const bitmap::Bits& users) {
    auto united = std::make_unique<bitmap::Bits>(users);
    Decoded old;
    scratch_.run([&] {
        old = pg::guard([&, name = std::string_view(services_[service])]() -> Decoded {
            CHECK_FOR_INTERRUPTS();
            Decoded found;
            ScanKeyData keys[4];
            ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk));
            ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_DATE_EQ, DateADTGetDatum(to_date_datum(day)));
            ScanKeyEntryInitialize(
                &keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
                PointerGetDatum(cstring_to_text_with_len(name.data(), static_cast<int>(name.size()))));
            ScanKeyInit(&keys[3], 4, BTEqualStrategyNumber, F_INT2EQ,
                        Int16GetDatum(static_cast<int16>(platform)));
            walk_.begin(GetActiveSnapshot(), keys, 4);
            if (TupleTableSlot* const slot = walk_.next()) found = decode_row(slot, chunk, *united);
            walk_.end();
            return found;
        });
    });
    if (old.trouble[0]) corrupt(services_[service], platform, day, chunk, old.trouble);
    const std::uint32_t after = united->count();
    if (after == old.users) return;
    marked += after - old.users;
    const std::size_t end = bytes_.size();
    bytes_.resize(end + bitmap::encoded_size(after));
    bitmap::encode(*united, bitmap::key_of(static_cast<std::uint64_t>(chunk)), bytes_.data() + end);
    ends_.push_back(bytes_.size());
    chunks_.push_back(chunk);
    days_.push_back(day);
    platforms_.push_back(platform);
    row_services_.push_back(services_[service]);
}

/// Closes it, and writes what was merged.
void Folder::close_and_write() {
    pg::guard([&] {
        walk_.close();
        PopActiveSnapshot();
    });
    if (!chunks_.empty()) {
        std::vector<std::string_view> bitmaps;
        std::size_t begin = 0;
        for (const std::size_t end : ends_) {
            bitmaps.emplace_back(reinterpret_cast<const char*>(bytes_.data()) + begin, end - begin);
            begin = end;
        }
        scratch_.run(
            [&] { write_query.write(chunks_, days_, row_services_, platforms_, pg::Param::bytes(bitmaps)); });
        rows += static_cast<std::int64_t>(chunks_.size());
        chunks_.clear(), days_.clear(), platforms_.clear(), row_services_.clear();
        bytes_.clear(), ends_.clear();
    }
    scratch_.reset();
}

/// Takes visits out of mau.visits, as they are committed now, into memory.
std::int64_t Folder::take_batch(std::int64_t limit) {
    Relation table = nullptr;
    TableScanDesc scan = nullptr;  // or, where it is null, the walk
    TupleTableSlot* slot = nullptr;
    pg::IndexWalk walk;
    CommandId command = 0;
    pg::guard([&] {
        pg::check_rights(config_.visits_table, ACL_SELECT | ACL_DELETE);
        command = GetCurrentCommandId(true);
        table = table_open(config_.visits_table, RowExclusiveLock);
        PushActiveSnapshot(GetLatestSnapshot());
        const BlockNumber blocks = RelationGetNumberOfBlocks(table);
        const float rows_known = table->rd_rel->reltuples;
        if (OidIsValid(pg::usable_index(kVisitsIndex, config_.visits_table)) && blocks > kManyBlocks &&
            rows_known >= 0 && rows_known < kFewRows * static_cast<float>(blocks)) {
            walk.open(config_.visits_table, kVisitsIndex);
            walk.begin(GetActiveSnapshot(), nullptr, 0);
        } else {
            scan = table_beginscan(table, GetActiveSnapshot(), 0, nullptr);
            slot = table_slot_create(table, nullptr);
        }
    });
    struct Step {
        std::int64_t taken = 0, skipped = 0;
        std::size_t kept = 0;
        bool end = false, new_service = false;
        std::string_view service;  // in the slot
        std::int64_t user_no = 0;
        Day day = 0;
        int platform = 0;
    };
    std::int64_t taken = 0;
    for (bool end = false; !end && taken < limit;) {
        const std::size_t before = visits_.size();
        const auto most = std::min<std::int64_t>(limit - taken, kStep);
        visits_.resize(before + static_cast<std::size_t>(most));
        const Step step = pg::guard([&]() -> Step {
            Step done;
            Visit* to = visits_.data() + before;
            std::size_t last = 0;  // mostly the service of the row before
            while (done.taken < most) {
                CHECK_FOR_INTERRUPTS();
                if (!scan)
                    slot = walk.next();
                else if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
                    slot_getallattrs(slot);
                else
                    done.end = true;
                done.end = done.end || slot == nullptr;
                if (done.end) break;
                done.user_no = DatumGetInt64(slot->tts_values[visits::user_no]);
                DateADT const date = DatumGetDateADT(slot->tts_values[visits::day]);
                done.platform = DatumGetInt16(slot->tts_values[visits::platform]);
                if (!pg::delete_row(table, slot, command, GetActiveSnapshot())) continue;
                ++done.taken;
                // The table's constraints keep such rows out; were they dropped, a row is taken away and
                // counted.
                done.service = text_of(slot, visits::service);
                if (done.user_no < 0 || done.user_no > kLastNumber || DATE_NOT_FINITE(date) ||
                    from_date_datum(date) < 0 || from_date_datum(date) > kLastDay || done.platform < 0 ||
                    done.platform >= kPlatforms || done.service.empty() ||
                    done.service.size() > kMaxService) {
                    ++done.skipped;
                    continue;
                }
                done.day = from_date_datum(date);
                if (last >= services_.size() || services_[last] != done.service) {
                    const auto known = numbers_.find(done.service);
                    done.new_service = known == numbers_.end();
                    if (done.new_service) break;
                    last = known->second;
                }
                *to++ = visit(done.user_no, done.day, done.platform, static_cast<std::uint32_t>(last));
            }
            done.kept = static_cast<std::size_t>(to - visits_.data()) - before;
            return done;
        });
        visits_.resize(before + step.kept);
        if (step.new_service)
            visits_.push_back(visit(step.user_no, step.day, step.platform, number_of(step.service)));
        taken += step.taken;
        skipped += step.skipped;
        end = step.end;
    }
    pg::guard([&] {
        if (scan) {
            ExecDropSingleTupleTableSlot(slot);
            table_endscan(scan);
        } else {
            walk.end();
            walk.close();
        }
        PopActiveSnapshot();
        table_close(table, NoLock);
        CommandCounterIncrement();
    });
    return taken;
}

std::int64_t Folder::take_visits(std::int64_t max_rows) {
    flush();
    std::int64_t taken = 0;
    while (taken < max_rows) {
        const std::int64_t limit = std::min(static_cast<std::int64_t>(kBatch), max_rows - taken);
        const std::int64_t met = take_batch(limit);
        flush();
        taken += met;
        if (met < limit) break;
    }
    return taken;
}

/// Unites the days of a chunk before the first that is kept into what was before, about `max_rows` of them.
std::int64_t Folder::purge_chunk(std::int32_t chunk, std::int64_t max_rows) {
    struct Before {
        std::uint32_t service;
        int platform;
        std::unique_ptr<bitmap::Bits> users;
    };
    struct Row {
        bool found = false;
        std::string_view service;  // in the slot
        int platform = 0;
        Day day = 0;
        TupleTableSlot* slot = nullptr;
    };
    std::vector<Before> before;
    std::int64_t purged = 0;
    open();
    CommandId const command = pg::guard([&] {
        pg::check_rights(config_.days_table, ACL_DELETE);
        ScanKeyData keys[3];
        ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk));
        ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_DATE_GT, DateADTGetDatum(DATEVAL_NOBEGIN));
        ScanKeyInit(&keys[2], 2, BTLessStrategyNumber, F_DATE_LT,
                    DateADTGetDatum(to_date_datum(first_kept_)));
        walk_.begin(GetActiveSnapshot(), keys, 3);
        return GetCurrentCommandId(true);
    });
    while (purged < max_rows) {
        const Row row = pg::guard([&]() -> Row {
            CHECK_FOR_INTERRUPTS();
            Row next;
            next.slot = walk_.next();
            next.found = next.slot != nullptr;
            if (!next.found) return next;
            next.service = text_of(next.slot, days::service);
            next.platform = DatumGetInt16(next.slot->tts_values[days::platform]);
            next.day = from_date_datum(DatumGetDateADT(next.slot->tts_values[days::day]));
            return next;
        });
        if (!row.found) break;
        const std::uint32_t service = number_of(row.service);
        auto known = std::find_if(before.begin(), before.end(), [&](const Before& b) {
            return b.service == service && b.platform == row.platform;
        });
        if (known == before.end()) {
            before.push_back({service, row.platform, std::make_unique<bitmap::Bits>()});
            known = std::prev(before.end());
            known->users->clear();
        }
        const Decoded decoded = pg::guard([&]() -> Decoded {
            Decoded users = decode_row(row.slot, chunk, *known->users);
            if (!users.trouble[0]) pg::delete_row(walk_.table(), row.slot, command, GetActiveSnapshot());
            return users;
        });
        if (decoded.trouble[0]) corrupt(services_[service], row.platform, row.day, chunk, decoded.trouble);
        ++purged;
    }
    pg::guard([&] { walk_.end(); });
    for (const Before& users : before) merge(chunk, kBefore, users.service, users.platform, *users.users);
    pg::guard([] { CommandCounterIncrement(); });
    close_and_write();
    return purged;
}

std::int64_t Folder::purge(std::int64_t max_rows) {
    if (first_kept_ == kBefore) return 0;
    flush();
    // The chunks that have such days.
    std::vector<std::int32_t> chunks;
    open();
    for (std::int32_t after = -1;;) {
        struct Found {
            std::int32_t chunk = -1;
            bool old = false;
        };
        const Found found = pg::guard([&]() -> Found {
            Found next;
            ScanKeyData keys[2];
            ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(after));
            walk_.begin(GetActiveSnapshot(), keys, 1);
            if (TupleTableSlot* const slot = walk_.next())
                next.chunk = DatumGetInt32(slot->tts_values[days::chunk]);
            walk_.end();
            if (next.chunk < 0) return next;
            ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(next.chunk));
            ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_DATE_GT, DateADTGetDatum(DATEVAL_NOBEGIN));
            walk_.begin(GetActiveSnapshot(), keys, 2);
            if (TupleTableSlot* const slot = walk_.next())
                next.old = DatumGetDateADT(slot->tts_values[days::day]) < to_date_datum(first_kept_);
            walk_.end();
            CHECK_FOR_INTERRUPTS();
            return next;
        });
        if (found.chunk < 0) break;
        if (found.old) chunks.push_back(found.chunk);
        after = found.chunk;
    }
    close_and_write();

    const std::int64_t marked_before = marked;
    std::int64_t purged = 0;
    for (const std::int32_t chunk : chunks) {
        if (purged >= max_rows) break;
        purged += purge_chunk(chunk, max_rows - purged);
    }
    marked = marked_before;
    return purged;
}

}  // namespace mau::history
