// Purging: bitmaps of days before the first kept day are united into the bitmap of day -infinity.
#include "bitmap/bitmap.hpp"

#include "history/fold.hpp"

#include <algorithm>

#include "history/days.hpp"
#include "pg/heap.hpp"

namespace mau::history {

/// Unites a chunk's bitmaps of days before the first kept day into that of day -infinity; about `max_rows`
/// bitmaps.
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
            next.service = pg::text_of(next.slot, days::service);
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
    // The chunks that have days to purge.
    std::vector<std::int32_t> chunks;
    open();
    for (std::int32_t after = -1;;) {
        struct NextChunk {
            std::int32_t chunk = -1;
            bool old = false;
        };
        const NextChunk found = pg::guard([&]() -> NextChunk {
            NextChunk next;
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
