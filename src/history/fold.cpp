#include "bitmap/bitmap.hpp"

#include "history/fold.hpp"

#include <algorithm>

#include "history/days.hpp"
#include "pg/heap.hpp"
#include "pg/plain.hpp"
#include "pg/values.hpp"

namespace mau::history {

namespace {

constexpr std::size_t kBatch = 524288;  // visits that are sorted at once: 8 MB
constexpr std::size_t kStep = 4096;     // visits that are taken behind one guard
constexpr std::size_t kRows = 32;  // bitmaps that are written by one statement: 256 KB, which caches hold
// A long queue leaves many pages, which are not truncated. If the last vacuum found them nearly empty, the
// rows are read through the index; else in the order of the table, which is by day.
constexpr BlockNumber kManyBlocks = 1024;
constexpr float kFewRows = 8;             // a page
constexpr std::size_t kMaxService = 255;  // bytes: it is a part of an index's key

pg::Statement write_query(
    // The time is read after the lock of the task, so that each fold writes later times than those before it.
    "INSERT INTO mau.active_days AS d (chunk, day, service, platform, users, purged_until, changed_at)"
    " SELECT v.chunk::int4, CASE WHEN v.day = -2147483648 THEN date '-infinity'"
    "        ELSE date '1970-01-01' + v.day::int4 END, v.service, v.platform::int2, v.users,"
    "        CASE WHEN v.day = -2147483648 THEN date '1970-01-01' + $6::int4 END,"
    "        CASE WHEN v.day = -2147483648 THEN $7 ELSE clock_timestamp() END"
    " FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5))"
    "   v(chunk, day, service, platform, users)"
    " ON CONFLICT (chunk, day, service, platform) DO UPDATE SET users = EXCLUDED.users,"
    "   purged_until = greatest(d.purged_until, EXCLUDED.purged_until),"
    "   changed_at = CASE WHEN d.purged_until IS NULL THEN EXCLUDED.changed_at"
    "                ELSE greatest(d.changed_at, EXCLUDED.changed_at) END",
    {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, BYTEAARRAYOID, INT8OID, TIMESTAMPTZOID});
pg::Statement retention_query(
    // A thousand years mean for ever, and are within the range of a timestamp.
    "SELECT (to_timestamp($1 / 1000.0) AT TIME ZONE 'UTC' - least(history_retention, interval '1000 years'))"
    "::date - date '1970-01-01' FROM mau.settings",
    {INT8OID});

/// The rows of mau.visits as they are committed now: in the order of the table, or through the index where
/// the table is nearly empty. All of it inside a guard only.
class VisitScan {
  public:
    void open(const Config& config) {
        pg::check_rights(config.visits_table, ACL_SELECT | ACL_DELETE);
        command_ = GetCurrentCommandId(true);
        table_ = pg::open_plain(config.visits_table, RowExclusiveLock);
        PushActiveSnapshot(GetLatestSnapshot());
        const BlockNumber blocks = RelationGetNumberOfBlocks(table_);
        const float rows_known = table_->rd_rel->reltuples;
        if (OidIsValid(pg::usable_index(kVisitsIndex, config.visits_table)) && blocks > kManyBlocks &&
            rows_known >= 0 && rows_known < kFewRows * static_cast<float>(blocks)) {
            walk_.open(config.visits_table, kVisitsIndex);
            walk_.begin(GetActiveSnapshot(), nullptr, 0);
        } else {
            scan_ = table_beginscan(table_, GetActiveSnapshot(), 0, nullptr);
            slot_ = table_slot_create(table_, nullptr);
        }
    }
    /// The next row, or null at the end.
    TupleTableSlot* next() {
        if (!scan_) return slot_ = walk_.next();
        if (!table_scan_getnextslot(scan_, ForwardScanDirection, slot_)) return nullptr;
        slot_getallattrs(slot_);
        return slot_;
    }
    /// Deletes the row; false where another transaction has it.
    bool take() { return pg::delete_row(table_, slot_, command_, GetActiveSnapshot()); }
    void close() {
        if (scan_) {
            ExecDropSingleTupleTableSlot(slot_);
            table_endscan(scan_);
        } else {
            walk_.end();
            walk_.close();
        }
        PopActiveSnapshot();
        table_close(table_, NoLock);
        CommandCounterIncrement();
    }

  private:
    Relation table_ = nullptr;
    TableScanDesc scan_ = nullptr;  // or, where it is null, the walk
    TupleTableSlot* slot_ = nullptr;
    pg::IndexWalk walk_;
    CommandId command_ = 0;
};

/// Whether a visit meets the table's constraints. If they were dropped, other rows are deleted and counted.
bool is_valid(std::int64_t user_no, DateADT date, int platform, std::string_view service) {
    return user_no >= 0 && user_no <= kLastNumber && !DATE_NOT_FINITE(date) && from_date_datum(date) >= 0 &&
           from_date_datum(date) <= kLastDay && platform >= 0 && platform < kPlatforms && !service.empty() &&
           service.size() <= kMaxService;
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

Folder::PackedVisit Folder::visit(std::int64_t user_no, Day day, int platform, std::uint32_t service) {
    if (day < first_kept_) {
        purged_until_ = std::max(purged_until_, day);
        // Such a visit counts as a change at the end of its day: a warehouse whose last copy is older lacks
        // it.
        purged_change_ = std::max(purged_change_, pg::to_timestamp(day_start(day + 1)));
        day = kBefore;
    }
    return {std::uint64_t{static_cast<std::uint32_t>(chunk_of(user_no))} << 32 |
                (static_cast<std::uint32_t>(day) ^ 0x80000000U),
            service, static_cast<std::uint16_t>(platform), position_of(user_no)};
}

void Folder::add(std::int64_t user_no, Day day, Platform platform, std::string_view service) {
    visits_.push_back(visit(user_no, day, static_cast<int>(platform), number_of(service)));
    if (visits_.size() >= kBatch) flush();
}

void Folder::flush() {
    std::sort(visits_.begin(), visits_.end(), [](const PackedVisit& a, const PackedVisit& b) {
        return a.chunk_and_day != b.chunk_and_day ? a.chunk_and_day < b.chunk_and_day : a.rest() < b.rest();
    });
    auto users = std::make_unique<bitmap::Bits>();
    for (auto first = visits_.begin(); first != visits_.end();) {
        open();
        for (; first != visits_.end() && chunks_.size() < kRows;) {
            users->clear();
            auto next = first;
            for (; next != visits_.end() && next->same_bitmap(*first); ++next) users->set(next->position);
            merge(first->chunk(), first->day(), first->service, first->platform, *users);
            first = next;
        }
        close_and_write();
    }
    visits_.clear();
}

/// Opens the table of bitmaps with a current snapshot.
void Folder::open() {
    pg::guard([&] {
        PushActiveSnapshot(GetLatestSnapshot());
        walk_.open(config_.days_table, kDaysIndex);
    });
}

/// Unites users with the stored bitmap; a row that changes is kept for writing.
void Folder::merge(std::int32_t chunk, Day day, std::uint32_t service, int platform,
                   const bitmap::Bits& users) {
    auto united = std::make_unique<bitmap::Bits>(users);
    struct Old : Decoded {
        Day purged_until = kBefore;
        TimestampTz changed_at = DT_NOBEGIN;
    } old;
    scratch_.run([&] {
        old = pg::guard([&, name = std::string_view(services_[service])]() -> Old {
            CHECK_FOR_INTERRUPTS();
            Old found;
            ScanKeyData keys[4];
            ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk));
            ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_DATE_EQ, DateADTGetDatum(to_date_datum(day)));
            ScanKeyEntryInitialize(&keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
                                   F_TEXTEQ, pg::make_text(name));
            ScanKeyInit(&keys[3], 4, BTEqualStrategyNumber, F_INT2EQ,
                        Int16GetDatum(static_cast<int16>(platform)));
            walk_.begin(GetActiveSnapshot(), keys, 4);
            if (TupleTableSlot* const slot = walk_.next()) {
                static_cast<Decoded&>(found) = decode_row(slot, chunk, *united);
                if (!slot->tts_isnull[days::purged_until])
                    found.purged_until =
                        from_date_datum(DatumGetDateADT(slot->tts_values[days::purged_until]));
                found.changed_at = DatumGetTimestampTz(slot->tts_values[days::changed_at]);
            }
            walk_.end();
            return found;
        });
    });
    if (old.trouble[0]) corrupt(services_[service], platform, day, chunk, old.trouble);
    const std::uint32_t after = united->count();
    const bool is_up_to_date =
        day != kBefore || (old.purged_until >= purged_until_ && old.changed_at >= purged_change_);
    if (after == old.users && is_up_to_date) return;
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

/// Closes the table, and writes the merged bitmaps.
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
        scratch_.run([&] {
            const pg::Rows written = write_query.write(
                chunks_, days_, row_services_, platforms_, pg::Param::bytes(bitmaps),
                std::int64_t{std::max(purged_until_, kFirstDay)}, std::int64_t{purged_change_});
            if (written.count < chunks_.size()) throw not_written("mau.active_days");
        });
        rows += static_cast<std::int64_t>(chunks_.size());
        chunks_.clear(), days_.clear(), platforms_.clear(), row_services_.clear();
        bytes_.clear(), ends_.clear();
    }
    scratch_.reset();
}

/// Moves committed rows of mau.visits into memory.
std::int64_t Folder::take_batch(std::int64_t limit) {
    struct Taken {
        std::int64_t taken = 0, skipped = 0;
        std::size_t kept = 0;
        bool end = false, new_service = false;
        std::string_view service;  // in the slot
        std::int64_t user_no = 0;
        Day day = 0;
        int platform = 0;
    };
    VisitScan scan;
    pg::guard([&] { scan.open(config_); });
    std::int64_t taken = 0;
    for (bool end = false; !end && taken < limit;) {
        const std::size_t before = visits_.size();
        const auto most = std::min<std::int64_t>(limit - taken, kStep);
        visits_.resize(before + static_cast<std::size_t>(most));
        const Taken step = pg::guard([&]() -> Taken {
            Taken done;
            PackedVisit* to = visits_.data() + before;
            std::size_t last = 0;  // the service of the row before; most rows have the same
            while (done.taken < most) {
                CHECK_FOR_INTERRUPTS();
                TupleTableSlot* const slot = scan.next();
                done.end = slot == nullptr;
                if (done.end) break;
                done.user_no = DatumGetInt64(slot->tts_values[visits::user_no]);
                DateADT const date = DatumGetDateADT(slot->tts_values[visits::day]);
                done.platform = DatumGetInt16(slot->tts_values[visits::platform]);
                if (!scan.take()) continue;
                ++done.taken;
                done.service = pg::text_of(slot, visits::service);
                if (!is_valid(done.user_no, date, done.platform, done.service)) {
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
    pg::guard([&] { scan.close(); });
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

}  // namespace mau::history
