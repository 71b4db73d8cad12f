#include "history_reader.hpp"

#include <algorithm>

#include "history.hpp"
#include "pg/values.hpp"

namespace mau::history {

namespace {

constexpr TimestampTz kPatience = 3 * USECS_PER_SEC;  // before a long reading says how far it is

#define MAU_MEMBERS(predicate)                                                     \
    "SELECT u.user_no FROM mau.users u WHERE u.user_no OPERATOR(pg_catalog.>=) $1" \
    " AND u.user_no OPERATOR(pg_catalog.<) $2 AND (" predicate ")"

/// Whom a kind takes in, or leaves out.
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
    {"bot", false, MAU_MEMBERS("u.user_type OPERATOR(pg_catalog.=) 'bot'")},
    {"deactivated", false, MAU_MEMBERS("u.is_deactivated")},
    {"unregistered", false, MAU_MEMBERS("NOT u.is_registered")},
    {nullptr, true, MAU_MEMBERS("u.is_guest")},
};

pg::Statement of_services_query(
    "SELECT u.user_no, u.appservice_id FROM mau.users u WHERE u.user_no OPERATOR(pg_catalog.>=) $1"
    " AND u.user_no OPERATOR(pg_catalog.<) $2 AND u.appservice_id OPERATOR(pg_catalog.<>) ''",
    {INT8OID, INT8OID});
pg::Statement last_user_query("SELECT coalesce(pg_catalog.max(u.user_no), -1) FROM mau.users u");
pg::Statement visited_days_query("SELECT pg_catalog.min(v.day), pg_catalog.max(v.day) FROM mau.visits v");
pg::Statement services_query(
    "SELECT d.service FROM mau.active_days d UNION SELECT v.service FROM mau.visits v ORDER BY 1");

std::int64_t first_no(std::int32_t chunk) {
    return std::int64_t{chunk} << 16;
}

enum Column { chunk_column, day_column, platform_column, service_column, users_column };
namespace visits {
enum Column { user_no, day, platform, service };
}

/// The text of a column; inside a guard only.
std::string_view text_of(TupleTableSlot* slot, int column) {
    const auto* value =
        pg_detoast_datum_packed(reinterpret_cast<varlena*>(DatumGetPointer(slot->tts_values[column])));
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

/// The lowest (or highest) chunk above `after` that has a bitmap, or -1; inside a guard only.
std::int32_t neighbour(pg::IndexWalk& walk, std::int32_t after, ScanDirection direction) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(after));
    walk.begin(GetActiveSnapshot(), &key, 1, direction);
    TupleTableSlot* const slot = walk.next();
    const std::int32_t chunk = slot ? DatumGetInt32(slot->tts_values[chunk_column]) : -1;
    walk.end();
    return chunk;
}

/// The same for the visits that are not folded.
std::int32_t visits_neighbour(pg::IndexWalk& walk, std::int32_t after, ScanDirection direction) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first_no(after + 1)));
    walk.begin(GetActiveSnapshot(), &key, 1, direction);
    TupleTableSlot* const slot = walk.next();
    const std::int32_t chunk = slot ? chunk_of(DatumGetInt64(slot->tts_values[visits::user_no])) : -1;
    walk.end();
    return chunk;
}

bitmap::Bits* allocate(std::size_t rows) {
    return pg::guard([&] {
        void* const memory = palloc_extended(bitmap::Rows::bytes(rows) + 64, MCXT_ALLOC_HUGE);
        return reinterpret_cast<bitmap::Bits*>((reinterpret_cast<std::uintptr_t>(memory) + 63) &
                                               ~std::uintptr_t{63});
    });
}

/// What is wrong with a bitmap, carried out of a guard.
struct Trouble {
    bool any = false;
    Day day = 0;
    int platform = 0;
    char service[64] = "";
    char what[200] = "";
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

std::optional<DayRange> extent(const World& world) {
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
        walk.open(world.days_table, world.days_index);
        for (std::int32_t chunk = -1; (chunk = neighbour(walk, chunk, ForwardScanDirection)) >= 0;) {
            CHECK_FOR_INTERRUPTS();
            ScanKeyData keys[2];
            ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk));
            ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_DATE_GT, DateADTGetDatum(DATEVAL_NOBEGIN));
            for (const ScanDirection direction : {ForwardScanDirection, BackwardScanDirection}) {
                walk.begin(GetActiveSnapshot(), keys, 2, direction);
                if (TupleTableSlot* const slot = walk.next())
                    found.include(from_date_datum(DatumGetDateADT(slot->tts_values[day_column])));
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

bitmap::Rows scratch(std::size_t rows) {
    return bitmap::Rows(allocate(rows), rows);
}

Chunks::Chunks(const World& world, const Question& question, Layout layout)
    : question_(question), layout_(std::move(layout)) {
    const auto days = static_cast<std::size_t>(layout_.days.last - layout_.days.first + 1);
    rows_ = layout_.row_of.empty()
                ? days
                : *std::max_element(layout_.row_of.begin(), layout_.row_of.end()) + std::size_t{1};
    const std::size_t all = rows_ * (layout_.by_platform ? kPlatforms : 1);
    bits_ = allocate(all);
    before_ = allocate(1);
    mask_ = allocate(1);
    pg::guard([&] {
        used_ = static_cast<char*>(palloc(all));
        std::memset(used_, 1, all);
        bitmaps_.open(world.days_table, world.days_index);
        visits_.open(world.visits_table, world.visits_index);
        last_chunk_ = std::max(neighbour(bitmaps_, -1, BackwardScanDirection),
                               visits_neighbour(visits_, -1, BackwardScanDirection));
        reported_ = GetCurrentTimestamp();
    });
}

void Chunks::close() {
    pg::guard([&] {
        visits_.close();
        bitmaps_.close();
    });
}

bitmap::Rows Chunks::days(Platform platform) const {
    return bitmap::Rows(bits_ + (layout_.by_platform ? static_cast<std::size_t>(platform) * rows_ : 0),
                        rows_);
}

bool Chunks::next() {
    const std::int32_t chunk = pg::guard([&] {
        const std::int32_t folded = neighbour(bitmaps_, chunk_, ForwardScanDirection);
        const std::int32_t visited = visits_neighbour(visits_, chunk_, ForwardScanDirection);
        return folded < 0 || visited < 0 ? std::max(folded, visited) : std::min(folded, visited);
    });
    if (chunk < 0) return false;
    read(chunk);
    return true;
}

void Chunks::clear() {
    const std::size_t all = rows_ * (layout_.by_platform ? kPlatforms : 1);
    for (std::size_t row = 0; row < all; ++row)
        if (used_[row]) bits_[row].clear();
    std::memset(used_, 0, all);
    before_->clear();
}

/// Fills the mask of the chunk; answers false where everybody is asked for.
bool Chunks::load_mask() {
    Mask& mask = masks[static_cast<int>(question_.kind)];
    if (question_.kind == Kind::everybody) return false;
    const pg::Rows rows = mask.query.read(first_no(chunk_), first_no(chunk_ + 1));
    if (mask.leaves_out && rows.empty()) return false;
    if (mask.leaves_out)
        mask_->fill();
    else
        mask_->clear();
    for (std::uint64_t i = 0; i < rows.count; ++i) {
        const std::uint16_t place = place_of(rows.at(i, 0).integer());
        if (mask.leaves_out)
            mask_->reset(place);
        else
            mask_->set(place);
    }
    return true;
}

void Chunks::read(std::int32_t chunk) {
    chunk_ = chunk;
    clear();
    const bitmap::Bits* const keep = load_mask() ? mask_ : nullptr;
    const std::string_view service =
        question_.service ? std::string_view(*question_.service) : std::string_view();
    const bool any_service = !question_.service;
    const int platform = question_.platform ? static_cast<int>(*question_.platform) : -1;

    // Where a day's users go; null for those who are not asked for.
    const auto target = [&](Day day, int of_platform) -> bitmap::Bits* {
        if (day < layout_.days.first) return before_;
        if (of_platform < 0 || of_platform >= kPlatforms) of_platform = 0;
        const auto number = static_cast<std::size_t>(day - layout_.days.first);
        const std::size_t row = (layout_.row_of.empty() ? number : layout_.row_of[number]) +
                                (layout_.by_platform ? static_cast<std::size_t>(of_platform) * rows_ : 0);
        used_[row] = 1;
        return bits_ + row;
    };

    const Trouble trouble = pg::guard([&]() -> Trouble {
        Trouble found;
        ScanKeyData keys[3];
        const DateADT first = to_date_datum(layout_.before ? kBefore : layout_.days.first);
        ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(chunk));
        ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_DATE_GE, DateADTGetDatum(first));
        ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_DATE_LE,
                    DateADTGetDatum(to_date_datum(layout_.days.last)));
        const std::uint16_t key = bitmap::key_of(static_cast<std::uint64_t>(chunk));
        bitmaps_.begin(GetActiveSnapshot(), keys, 3);
        while (TupleTableSlot* const slot = bitmaps_.next()) {
            CHECK_FOR_INTERRUPTS();
            const int of_platform = DatumGetInt16(slot->tts_values[platform_column]);
            if (platform >= 0 && of_platform != platform) continue;
            if (!any_service && text_of(slot, service_column) != service) continue;
            const Day day = from_date_datum(DatumGetDateADT(slot->tts_values[day_column]));
            auto* const stored = reinterpret_cast<varlena*>(DatumGetPointer(slot->tts_values[users_column]));
            varlena* const users = pg_detoast_datum_packed(stored);
            try {
                bitmap::decode(VARDATA_ANY(users), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(users)), key,
                               *target(day, of_platform), keep);
            } catch (const bitmap::CorruptBitmap& error) {
                const std::string_view its_service = text_of(slot, service_column);
                found.any = true;
                found.day = day;
                found.platform = of_platform;
                strlcpy(found.service, its_service.data(),
                        std::min(sizeof found.service, its_service.size() + 1));
                strlcpy(found.what, error.what(), sizeof found.what);
            }
            if (users != stored) pfree(users);
            if (found.any) break;
        }
        bitmaps_.end();
        if (found.any) return found;

        ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first_no(chunk)));
        ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(first_no(chunk + 1)));
        visits_.begin(GetActiveSnapshot(), keys, 2);
        while (TupleTableSlot* const slot = visits_.next()) {
            CHECK_FOR_INTERRUPTS();
            const int of_platform = DatumGetInt16(slot->tts_values[visits::platform]);
            const Day day = from_date_datum(DatumGetDateADT(slot->tts_values[visits::day]));
            const std::uint16_t place = place_of(DatumGetInt64(slot->tts_values[visits::user_no]));
            if (day > layout_.days.last || (day < layout_.days.first && !layout_.before)) continue;
            if (platform >= 0 && of_platform != platform) continue;
            if (keep && !keep->test(place)) continue;
            if (!any_service && text_of(slot, visits::service) != service) continue;
            target(day, of_platform)->set(place);
        }
        visits_.end();
        return found;
    });
    if (trouble.any) corrupt(trouble.service, trouble.platform, trouble.day, chunk, trouble.what);
    report_progress();
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

std::vector<Registered> registered(const World& world, const Question& question, std::int32_t chunk) {
    std::vector<Registered> users;
    users.reserve(65536);
    pg::guard([&] {
        pg::IndexWalk walk;
        walk.open(world.users_table, world.users_numbers);
        ScanKeyData keys[2];
        ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first_no(chunk)));
        ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(first_no(chunk + 1)));
        walk.begin(GetActiveSnapshot(), keys, 2);
        while (TupleTableSlot* const slot = walk.next()) {
            CHECK_FOR_INTERRUPTS();
            if (slot->tts_isnull[directory::users::registered_at]) continue;
            users.push_back({place_of(DatumGetInt64(slot->tts_values[directory::users::user_no])),
                             DatumGetInt64(slot->tts_values[directory::users::registered_at])});
        }
        walk.end();
        walk.close();
    });

    // The few who are not asked for, by their places.
    auto wanted = std::make_unique<bitmap::Bits>();
    wanted->fill();
    const std::int64_t from = first_no(chunk), to = first_no(chunk + 1);
    Mask& mask = masks[static_cast<int>(question.kind)];
    if (question.kind != Kind::everybody) {
        const pg::Rows rows = mask.query.read(from, to);
        if (!mask.leaves_out) wanted->clear();
        for (std::uint64_t i = 0; i < rows.count; ++i) {
            const std::uint16_t place = place_of(rows.at(i, 0).integer());
            if (mask.leaves_out)
                wanted->reset(place);
            else
                wanted->set(place);
        }
    }
    if (question.service) {
        const bool native = *question.service == "native";
        auto theirs = std::make_unique<bitmap::Bits>();
        theirs->clear();
        const pg::Rows rows = of_services_query.read(from, to);
        for (std::uint64_t i = 0; i < rows.count; ++i)
            if (native || rows.at(i, 1).text() == *question.service)
                theirs->set(place_of(rows.at(i, 0).integer()));
        if (native)
            *wanted -= *theirs;
        else
            *wanted &= *theirs;
    }
    users.erase(std::remove_if(users.begin(), users.end(),
                               [&](const Registered& r) { return !wanted->test(r.place); }),
                users.end());
    return users;
}

std::int32_t last_user_chunk() {
    const std::int64_t last = last_user_query.read().at(0, 0).integer();
    return last < 0 ? -1 : chunk_of(last);
}

}  // namespace mau::history
