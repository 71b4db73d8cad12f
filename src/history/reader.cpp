#include "history/reader.hpp"

#include <algorithm>

#include "history/days.hpp"
#include "history/history.hpp"

namespace mau::history {

namespace {

constexpr TimestampTz kPatience = 3 * USECS_PER_SEC;  // before a long reading says how far it is

#define MAU_MEMBERS(predicate)                                \
    "SELECT u.user_no FROM mau.users u WHERE u.user_no >= $1" \
    " AND u.user_no < $2 AND (" predicate ")"

/// The users whom a kind includes or excludes.
struct Mask {
    const char* name;  // null: not to be asked for in SQL
    bool leaves_out;
    pg::Statement query;
    Mask(const char* called, bool out, const char* sql)
        : name(called), leaves_out(out), query(sql, {INT8OID, INT8OID}) {}
};

// In the order of Kind; the first as the index users_not_counted has it.
Mask masks[] = {
    {"counted", true, MAU_MEMBERS("u.is_guest OR " MAU_U_IS_SUPPORT)},
    {"everybody", true, MAU_MEMBERS("false")},
    {"guest", false, MAU_MEMBERS("u.is_guest")},
    {"support", false, MAU_MEMBERS(MAU_U_IS_SUPPORT)},
    {"bot", false, MAU_MEMBERS("u.user_type = 'bot'")},
    {"deactivated", false, MAU_MEMBERS("u.is_deactivated")},
    {"unregistered", false, MAU_MEMBERS("NOT u.is_registered")},
    {nullptr, true, MAU_MEMBERS("u.is_guest")},
};

pg::Statement accounts_of_services_query(
    "SELECT u.user_no, u.appservice_id FROM mau.users u WHERE u.user_no >= $1"
    " AND u.user_no < $2 AND u.appservice_id <> ''",
    {INT8OID, INT8OID});
pg::Statement visited_days_query(
    "SELECT min(v.day), max(v.day) FROM mau.visits v"
    " WHERE v.day > '-infinity' AND v.day < 'infinity'");
pg::Statement services_query(
    "SELECT d.service FROM mau.active_days d UNION SELECT v.service FROM mau.visits v ORDER BY 1");

/// The lowest (or highest) chunk above `after` that has a bitmap, or -1; inside a guard only.
std::int32_t neighbour(pg::IndexWalk& walk, std::int32_t after, ScanDirection direction) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(after));
    walk.begin(GetActiveSnapshot(), &key, 1, direction);
    TupleTableSlot* const slot = walk.next();
    const std::int32_t chunk = slot ? DatumGetInt32(slot->tts_values[days::chunk]) : -1;
    walk.end();
    return chunk;
}

/// Memory for so many rows, aligned for the algebra, and where it begins for pfree.
struct Memory {
    bitmap::Bits* rows;
    void* begin;
};
Memory allocate(std::size_t rows) {
    return pg::guard([&]() -> Memory {
        void* const begin = palloc_extended(bitmap::BitRows::bytes(rows) + 64, MCXT_ALLOC_HUGE);
        return {reinterpret_cast<bitmap::Bits*>((reinterpret_cast<std::uintptr_t>(begin) + 63) &
                                                ~std::uintptr_t{63}),
                begin};
    });
}

/// A row of mau.active_days whose bitmap is damaged, for an error raised outside the guard.
struct Damaged {
    char trouble[sizeof Decoded::trouble] = "";  // empty where there is none
    Day day = 0;
    int platform = 0;
    char service[256] = "";
};

}  // namespace

Kind kind_called(std::string_view name) {
    std::string known;
    for (std::size_t i = 0; i < std::size(masks) && masks[i].name; ++i) {
        if (name == masks[i].name) return static_cast<Kind>(i);
        known += (known.empty() ? "" : ", ") + std::string(masks[i].name);
    }
    throw Error(sqlstate::invalid_parameter, "unknown kind of users", "It is \"" + std::string(name) + "\".",
                "The kinds are: " + known + ".");
}

std::optional<DayRange> extent(const Config& config) {
    struct Ends {
        bool any = false;
        Day first = 0, last = 0;
        void include(Day day) {
            if (!any || day < first) first = day;
            if (!any || day > last) last = day;
            any = true;
        }
    };
    Ends ends = pg::guard([&]() -> Ends {
        Ends found;
        pg::IndexWalk walk;
        walk.open(config.days_table, kDaysIndex);
        for (std::int32_t chunk = -1; (chunk = neighbour(walk, chunk, ForwardScanDirection)) >= 0;) {
            CHECK_FOR_INTERRUPTS();
            ScanKeyData keys[2];
            ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk));
            ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_DATE_GT, DateADTGetDatum(DATEVAL_NOBEGIN));
            for (const ScanDirection direction : {ForwardScanDirection, BackwardScanDirection}) {
                walk.begin(GetActiveSnapshot(), keys, 2, direction);
                if (TupleTableSlot* const slot = walk.next())
                    found.include(from_date_datum(DatumGetDateADT(slot->tts_values[days::day])));
                walk.end();
            }
        }
        walk.close();
        return found;
    });
    const pg::Rows visited = visited_days_query.read();
    for (int i = 0; i < 2; ++i)
        if (!visited.at(0, i).is_null())
            ends.include(from_date_datum(DatumGetDateADT(visited.at(0, i).datum())));
    if (!ends.any) return std::nullopt;
    return DayRange{ends.first, ends.last};
}

std::vector<std::string> services() {
    std::vector<std::string> names;
    const pg::Rows rows = services_query.read();
    for (std::uint64_t i = 0; i < rows.count; ++i) names.push_back(rows.at(i, 0).string());
    return names;
}

std::int64_t first_user_of(std::int32_t chunk) {
    return std::int64_t{chunk} << 16;
}

bitmap::BitRows scratch(std::size_t rows) {
    return bitmap::BitRows(allocate(rows).rows, rows);
}

void keep_accounts_of_service(const Question& question, std::int32_t chunk, bitmap::Bits& users,
                              pg::Scratch& scratch) {
    if (!question.service) return;
    const bool native = *question.service == "native";
    auto theirs = std::make_unique<bitmap::Bits>();
    theirs->clear();
    scratch.run([&] {
        const pg::Rows rows = accounts_of_services_query.read(first_user_of(chunk), first_user_of(chunk + 1));
        for (std::uint64_t i = 0; i < rows.count; ++i)
            if (native || rows.at(i, 1).text() == *question.service)
                theirs->set(position_of(rows.at(i, 0).integer()));
    });
    scratch.reset();
    if (native)
        users -= *theirs;
    else
        users &= *theirs;
}

Chunks::Chunks(const Config& config, const Question& question, Layout layout)
    : question_(question), layout_(std::move(layout)), visits_(question_, layout_) {
    const auto days = static_cast<std::size_t>(layout_.days.last - layout_.days.first + 1);
    rows_ = layout_.row_of.empty()
                ? std::min(days, static_cast<std::size_t>(layout_.overlap + kBlock))
                : *std::max_element(layout_.row_of.begin(), layout_.row_of.end()) + std::size_t{1};
    const std::size_t all = rows_ * (layout_.by_platform ? kPlatforms : 1);
    const Memory memory = allocate(all + 2);
    memory_ = memory.begin;
    bits_ = memory.rows;
    before_ = bits_ + all;
    mask_ = before_ + 1;
    pg::guard([&] {
        used_ = static_cast<char*>(palloc(all));
        std::memset(used_, 1, all);
        bitmaps_.open(config.days_table, kDaysIndex);
        last_chunk_ = neighbour(bitmaps_, -1, BackwardScanDirection);
        reported_ = GetCurrentTimestamp();
    });
}

void Chunks::close() {
    visits_.close();
    scratch_.close();
    pg::guard([&] {
        bitmaps_.close();
        pfree(used_);
        pfree(memory_);
    });
}

bitmap::BitRows Chunks::days(Platform platform) const {
    return bitmap::BitRows(bits_ + (layout_.by_platform ? static_cast<std::size_t>(platform) * rows_ : 0),
                           size());
}

/// The number of rows of the block.
std::size_t Chunks::size() const {
    return layout_.row_of.empty() ? static_cast<std::size_t>(block_.last - block_.first + 1) : rows_;
}

/// The row for the visits of a day.
bitmap::Bits* Chunks::row_for(Day day, int platform) {
    if (day < block_.first) return before_;
    if (platform < 0 || platform >= kPlatforms) platform = 0;
    const auto number = static_cast<std::size_t>(day - block_.first);
    const std::size_t row = (layout_.row_of.empty() ? number : layout_.row_of[number]) +
                            (layout_.by_platform ? static_cast<std::size_t>(platform) * rows_ : 0);
    used_[row] = 1;
    return bits_ + row;
}

/// Empties the rows from `from` on, of each platform.
void Chunks::clear_rows(std::size_t from) {
    for (std::size_t first = 0; first < (layout_.by_platform ? kPlatforms : 1) * rows_; first += rows_)
        for (std::size_t row = first + from; row < first + rows_; ++row) {
            if (used_[row]) bits_[row].clear();
            used_[row] = 0;
        }
}

bool Chunks::next() {
    const std::int32_t folded = pg::guard([&] { return neighbour(bitmaps_, chunk_, ForwardScanDirection); });
    const Unfolded::Visit* visit = visits_.head();
    while (visit && visit->chunk <= chunk_) visits_.pop(), visit = visits_.head();
    if (folded < 0 && !visit) return false;
    read(!visit || (folded >= 0 && folded < visit->chunk) ? folded : visit->chunk);
    return true;
}

void Chunks::read(std::int32_t chunk) {
    chunk_ = chunk;
    clear_rows(0);
    before_->clear();
    load_mask();
    const Day last =
        layout_.row_of.empty() ? layout_.days.first + static_cast<Day>(rows_) - 1 : layout_.days.last;
    block_ = {layout_.days.first, std::min(layout_.days.last, last)};
    load({layout_.before ? kBefore : block_.first, block_.last});
}

bool Chunks::next_block() {
    if (block_.last >= layout_.days.last) return false;
    slide();
    const Day first_new = block_.last + 1;
    block_.last = std::min(layout_.days.last, block_.first + static_cast<Day>(rows_) - 1);
    load({first_new, block_.last});
    return true;
}

/// Makes the last rows the first ones; the rows that they replace are united into `before`.
void Chunks::slide() {
    const std::size_t size = this->size(), kept = static_cast<std::size_t>(layout_.overlap),
                      gone = size - kept;
    for (std::size_t first = 0; first < (layout_.by_platform ? kPlatforms : 1) * rows_; first += rows_) {
        if (layout_.before)
            for (std::size_t row = first; row < first + gone; ++row)
                if (used_[row]) *before_ |= bits_[row];
        for (std::size_t row = first; row < first + kept; ++row) {
            if (used_[row + gone] || used_[row])
                std::memcpy(bits_ + row, bits_ + row + gone, sizeof(bitmap::Bits));
            used_[row] = used_[row + gone];
        }
    }
    clear_rows(kept);
    block_.first += static_cast<Day>(gone);
}

void Chunks::load_mask() {
    keep_ = nullptr;
    Mask& mask = masks[static_cast<int>(question_.kind)];
    if (question_.kind == Kind::everybody) return;
    scratch_.run([&] {
        const pg::Rows rows = mask.query.read(first_user_of(chunk_), first_user_of(chunk_ + 1));
        if (mask.leaves_out && rows.empty()) return;
        keep_ = mask_;
        if (mask.leaves_out)
            mask_->fill();
        else
            mask_->clear();
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::uint16_t position = position_of(rows.at(i, 0).integer());
            if (mask.leaves_out)
                mask_->reset(position);
            else
                mask_->set(position);
        }
    });
    scratch_.reset();
}

void Chunks::load(DayRange days) {
    load_bitmaps(days);
    load_visits(days.last);
    report_progress();
}

void Chunks::load_bitmaps(DayRange days) {
    const std::string_view service =
        question_.service ? std::string_view(*question_.service) : std::string_view();
    const bool any_service = !question_.service;
    const int platform = question_.platform ? static_cast<int>(*question_.platform) : -1;
    const Damaged damaged = pg::guard([&]() -> Damaged {
        Damaged found;
        ScanKeyData keys[3];
        ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk_));
        ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_DATE_GE,
                    DateADTGetDatum(to_date_datum(days.first)));
        ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_DATE_LE,
                    DateADTGetDatum(to_date_datum(days.last)));
        bitmaps_.begin(GetActiveSnapshot(), keys, 3);
        while (TupleTableSlot* const slot = bitmaps_.next()) {
            CHECK_FOR_INTERRUPTS();
            const int of_platform = DatumGetInt16(slot->tts_values[days::platform]);
            if (platform >= 0 && of_platform != platform) continue;
            const std::string_view of_service = pg::text_of(slot, days::service);
            if (!any_service && of_service != service) continue;
            const Day day = from_date_datum(DatumGetDateADT(slot->tts_values[days::day]));
            const Decoded decoded = decode_row(slot, chunk_, *row_for(day, of_platform), keep_);
            if (!decoded.trouble[0]) continue;
            std::memcpy(found.trouble, decoded.trouble, sizeof found.trouble);
            found.day = day;
            found.platform = of_platform;
            strlcpy(found.service, of_service.data(), std::min(sizeof found.service, of_service.size() + 1));
            break;
        }
        bitmaps_.end();
        return found;
    });
    if (damaged.trouble[0]) corrupt(damaged.service, damaged.platform, damaged.day, chunk_, damaged.trouble);
}

/// Loads the chunk's visits up to a day.
void Chunks::load_visits(Day last) {
    while (const Unfolded::Visit* const visit = visits_.head()) {
        if (visit->chunk > chunk_ || (visit->chunk == chunk_ && visit->day > last)) return;
        visits_.pop();
        if (visit->chunk < chunk_ || (keep_ && !keep_->test(visit->position))) continue;
        row_for(visit->day, visit->platform)->set(visit->position);
    }
}

void Chunks::report_progress() {
    pg::guard([&] {
        TimestampTz const now = GetCurrentTimestamp();
        if (now - reported_ < kPatience) return;
        reported_ = now;
        ereport(NOTICE, (errmsg("mau has read the history of %d of %d chunks of users", chunk_ + 1,
                                std::max(last_chunk_, chunk_) + 1)));
    });
}

}  // namespace mau::history
