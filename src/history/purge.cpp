// Purging: bitmaps of days before the first kept day are united into the bitmap of day -infinity.
#include "bitmap/bitmap.hpp"

#include "history/fold.hpp"

#include <algorithm>
#include <tuple>

namespace mau::history {

namespace {

constexpr std::int64_t kStep = 1024;  // bitmaps of at most 8 KB that are read at once

pg::Statement take_query(
    "WITH old AS MATERIALIZED (SELECT d.ctid AS place FROM mau.active_days d"
    "  WHERE d.day > date '-infinity' AND d.day < date '1970-01-01' + $1::int4"
    "  LIMIT $2 FOR UPDATE SKIP LOCKED),"
    " gone AS (DELETE FROM mau.active_days d WHERE d.ctid = ANY (ARRAY(SELECT o.place FROM old o))"
    "  RETURNING d.ctid AS place, d.chunk, d.service, d.platform, d.day, d.users, d.changed_at)"
    " SELECT g.chunk, g.service, g.platform::int4, g.day, g.users, g.changed_at"
    " FROM old o LEFT JOIN gone g ON g.place = o.place",
    {INT8OID, INT8OID});

}  // namespace

/// Takes at most `limit` bitmaps of days before the first kept day, and returns their number.
std::int64_t Folder::purge_some(std::int64_t limit) {
    const pg::Rows old = take_query.write(std::int64_t{first_kept_}, limit);
    std::map<std::tuple<std::int32_t, std::uint32_t, int>, std::unique_ptr<bitmap::Bits>> before;
    for (std::uint64_t i = 0; i < old.count; ++i) {
        if (old.at(i, 0).is_null()) throw not_deleted("mau.active_days");
        const std::int32_t chunk = old.at(i, 0).int4();
        const std::string_view service = old.at(i, 1).text();
        const int platform = old.at(i, 2).int4();
        auto& users = before[{chunk, number_of(service), platform}];
        if (!users) users = std::make_unique<bitmap::Bits>(bitmap::Bits{});
        const Day day = from_date_datum(old.at(i, 3).int4());
        purged_until_ = std::max(purged_until_, day);
        purged_change_ = std::max(purged_change_, old.at(i, 5).integer());
        const std::string_view bytes = old.at(i, 4).text();
        try {
            bitmap::decode(bytes.data(), bytes.size(), bitmap::key_of(static_cast<std::uint64_t>(chunk)),
                           *users);
        } catch (const bitmap::CorruptBitmap& error) {
            corrupt(service, platform, day, chunk, error.what());
        }
    }
    open();
    for (const auto& [key, users] : before) {
        const auto [chunk, service, platform] = key;
        merge(chunk, kBefore, service, platform, *users);
    }
    close_and_write();
    return static_cast<std::int64_t>(old.count);
}

std::int64_t Folder::purge(std::int64_t max_rows) {
    if (first_kept_ == kBefore) return 0;
    flush();
    const std::int64_t marked_before = marked;
    std::int64_t purged = 0;
    pg::Scratch scratch;
    for (bool more = true; more && purged < max_rows;) {
        const std::int64_t limit = std::min(kStep, max_rows - purged);
        scratch.run([&] {
            const std::int64_t taken = purge_some(limit);
            purged += taken;
            more = taken == limit;
        });
        scratch.reset();
    }
    scratch.close();
    marked = marked_before;
    return purged;
}

}  // namespace mau::history
