#include "departures.hpp"

#include <algorithm>

#include "pg/values.hpp"
#include "seats.hpp"

namespace mau::departures {

namespace {

constexpr int kTogether = 256;           // users in a row of mau.departures at most
constexpr std::size_t kRowBytes = 7168;  // and their bytes: what stays in the table, and in one page

// One row at a time, so that the memory of a settling does not depend on how many there are.
pg::Statement settle_query(
    "WITH gone AS (DELETE FROM mau.departures p WHERE p.ctid OPERATOR(pg_catalog.=) ("
    "    SELECT o.ctid FROM mau.departures o LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING p.user_ids, "
    "p.last_seen"
    "), d AS MATERIALIZED ("
    "  SELECT v.user_id, pg_catalog.max(v.at) AS at FROM gone g,"
    "   ROWS FROM (pg_catalog.unnest(g.user_ids), pg_catalog.unnest(g.last_seen)) v(user_id, at)"
    "   WHERE pg_catalog.octet_length(v.user_id) OPERATOR(pg_catalog.<=) 255 GROUP BY v.user_id"
    "), known AS MATERIALIZED ("
    "  SELECT d.user_id, d.at, (SELECT u.user_no FROM mau.users u WHERE u.user_id OPERATOR(pg_catalog.=) "
    "d.user_id)"
    "   AS user_no FROM d"
    "), free AS MATERIALIZED ("
    "  SELECT u.user_no, k.at FROM known k JOIN mau.users u ON u.user_no OPERATOR(pg_catalog.=) k.user_no"
    "   ORDER BY u.user_no FOR UPDATE OF u SKIP LOCKED"
    "), moved AS ("
    "  UPDATE mau.users u SET last_seen = greatest(u.last_seen, f.at) FROM free f"
    "   WHERE u.user_no OPERATOR(pg_catalog.=) f.user_no"
    "), made AS ("
    "  INSERT INTO mau.users AS u (user_id, last_seen) SELECT k.user_id, k.at FROM known k WHERE k.user_no "
    "IS NULL"
    "   ORDER BY k.user_id ON CONFLICT (user_id) DO UPDATE SET last_seen = greatest(u.last_seen, "
    "EXCLUDED.last_seen)"
    "), locked AS ("
    "  INSERT INTO mau.departures (user_ids, last_seen)"
    "   SELECT pg_catalog.array_agg(k.user_id), pg_catalog.array_agg(k.at) FROM known k"
    "    WHERE NOT EXISTS (SELECT FROM free f WHERE f.user_no OPERATOR(pg_catalog.=) k.user_no)"
    "      AND k.user_no IS NOT NULL HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0"
    "  RETURNING pg_catalog.cardinality(user_ids) AS users"
    ") SELECT (SELECT pg_catalog.count(*) FROM d), coalesce((SELECT l.users FROM locked l), "
    "0)::pg_catalog.int8");

/// Columns of the cohort, from 1 on.
enum { kUserId = 1, kTimestamp = 2, kService = 3 };

std::string_view text_of(Datum datum) {
    const auto* value = reinterpret_cast<const varlena*>(DatumGetPointer(datum));
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

/// Goes over the rows that the index has before the cutoff: a portion at a time, and that in the order in
/// which they lie in the table.
struct Sweep {
    Relation table, index;
    Snapshot snapshot;
    TupleTableSlot* slot;
    IndexScanDesc scan;
    IndexFetchTableData* fetch;
    std::uint64_t* places;  // of the portion, where the index says that rows are: block and item
    std::int64_t room, count, next;
    bool at_end;  // of the index: asked again, it would begin anew
};

// Everything below runs inside a guard.

/// Brings the places into the order of blocks (within one as the index has them): by counting where they are
/// many, for it is a good part of the work.
void sort_by_block(Sweep& sweep) {
    const Size blocks = RelationGetNumberOfBlocks(sweep.table);
    if (static_cast<Size>(sweep.count) < blocks / 16) {
        std::sort(sweep.places, sweep.places + sweep.count);
        return;
    }
    const auto block = [&](std::int64_t i) { return std::min<Size>(sweep.places[i] >> 16, blocks); };
    auto* const ends = static_cast<std::int64_t*>(palloc0(sizeof(std::int64_t) * (blocks + 1)));
    for (std::int64_t i = 0; i < sweep.count; ++i) ++ends[block(i)];
    std::int64_t sum = 0;
    for (Size b = 0; b <= blocks; ++b) ends[b] = sum += ends[b];
    auto* const sorted = static_cast<std::uint64_t*>(
        palloc_extended(sizeof(std::uint64_t) * static_cast<Size>(sweep.room), MCXT_ALLOC_HUGE));
    for (std::int64_t i = sweep.count; i-- > 0;) sorted[--ends[block(i)]] = sweep.places[i];
    pfree(ends);
    pfree(sweep.places);
    sweep.places = sorted;
}

void begin(Sweep& sweep, const World& world, Instant cutoff) {
    sweep.table = table_open(world.cohort_table, RowExclusiveLock);
    sweep.index = index_open(world.cohort_by_time, AccessShareLock);
    sweep.snapshot = RegisterSnapshot(GetLatestSnapshot());
    sweep.slot = table_slot_create(sweep.table, nullptr);
    sweep.fetch = table_index_fetch_begin(sweep.table);
    sweep.room = 1024;
    sweep.places = static_cast<std::uint64_t*>(palloc(static_cast<Size>(sweep.room) * sizeof(std::uint64_t)));
    sweep.count = sweep.next = 0;
    sweep.at_end = false;
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(cutoff));
    sweep.scan = pg::compat::begin_index_scan(sweep.table, sweep.index, sweep.snapshot, 1);
    index_rescan(sweep.scan, &key, 1, nullptr, 0);
}

/// Takes the next places from the index, at most so many; answers false at its end. Some are of rows that are
/// gone.
bool take_portion(Sweep& sweep, std::int64_t most) {
    sweep.count = sweep.next = 0;
    while (sweep.count < most && !sweep.at_end) {
        CHECK_FOR_INTERRUPTS();
        ItemPointer const place = index_getnext_tid(sweep.scan, ForwardScanDirection);
        sweep.at_end = !place;
        if (!place) break;
        if (sweep.count == sweep.room) {
            sweep.room *= 2;
            sweep.places = static_cast<std::uint64_t*>(
                repalloc_huge(sweep.places, static_cast<Size>(sweep.room) * sizeof(std::uint64_t)));
        }
        sweep.places[sweep.count++] =
            std::uint64_t{ItemPointerGetBlockNumber(place)} << 16 | ItemPointerGetOffsetNumber(place);
    }
    sort_by_block(sweep);
    return sweep.count > 0;
}

/// The next visible row of the portion is in the slot; answers false at the end.
bool advance(Sweep& sweep) {
    while (sweep.next < sweep.count) {
        const std::uint64_t at = sweep.places[sweep.next++];
        ItemPointerData place;
        ItemPointerSet(&place, static_cast<BlockNumber>(at >> 16), static_cast<OffsetNumber>(at & 0xFFFF));
        CHECK_FOR_INTERRUPTS();
        bool again = false, dead = false;
        if (table_index_fetch_tuple(sweep.fetch, &place, sweep.snapshot, sweep.slot, &again, &dead))
            return true;
    }
    return false;
}

void end(Sweep& sweep) {
    index_endscan(sweep.scan);
    table_index_fetch_end(sweep.fetch);
    ExecDropSingleTupleTableSlot(sweep.slot);
    UnregisterSnapshot(sweep.snapshot);
    pfree(sweep.places);
    index_close(sweep.index, AccessShareLock);
    table_close(sweep.table, NoLock);
}

Datum column(const Sweep& sweep, AttrNumber number) {
    bool null = false;
    return slot_getattr(sweep.slot, number, &null);
}

/// Puts who left into mau.departures, as many in a row as stay in one page.
struct Keeper {
    Relation table;
    TupleTableSlot* slot;
    BulkInsertStateData* bulk;
    CommandId command;
    MemoryContext memory;  // of the row that is being made
    int users;
    std::size_t bytes;
    Datum user_ids[kTogether], times[kTogether];
    alignas(8) char texts[kRowBytes];
};

void open(Keeper& keeper, const World& world, CommandId command) {
    keeper.table = table_open(world.departures_table, RowExclusiveLock);
    keeper.slot = table_slot_create(keeper.table, nullptr);
    keeper.bulk = GetBulkInsertState();
    keeper.command = command;
    keeper.memory = AllocSetContextCreate(CurrentMemoryContext, "mau departures", ALLOCSET_DEFAULT_SIZES);
    keeper.users = 0;
    keeper.bytes = 0;
}

void write(Keeper& keeper) {
    if (keeper.users == 0) return;
    MemoryContext const outer = MemoryContextSwitchTo(keeper.memory);
    ExecClearTuple(keeper.slot);
    keeper.slot->tts_values[0] =
        PointerGetDatum(construct_array(keeper.user_ids, keeper.users, TEXTOID, -1, false, TYPALIGN_INT));
    keeper.slot->tts_values[1] =
        PointerGetDatum(construct_array(keeper.times, keeper.users, INT8OID, 8, true, TYPALIGN_DOUBLE));
    keeper.slot->tts_isnull[0] = keeper.slot->tts_isnull[1] = false;
    ExecStoreVirtualTuple(keeper.slot);
    table_tuple_insert(keeper.table, keeper.slot, keeper.command, 0, keeper.bulk);
    MemoryContextSwitchTo(outer);
    MemoryContextReset(keeper.memory);
    keeper.users = 0;
    keeper.bytes = 0;
}

void keep(Keeper& keeper, std::string_view user_id, Instant at) {
    const std::size_t size = INTALIGN(VARHDRSZ + user_id.size());
    if (keeper.users == kTogether || keeper.bytes + size + sizeof(Instant) > kRowBytes) write(keeper);
    char* const text = keeper.texts + keeper.bytes;
    SET_VARSIZE(text, VARHDRSZ + user_id.size());
    std::memcpy(VARDATA(text), user_id.data(), user_id.size());
    keeper.user_ids[keeper.users] = PointerGetDatum(text);
    keeper.times[keeper.users++] = Int64GetDatum(at);
    keeper.bytes += size + sizeof(Instant);
}

void close(Keeper& keeper) {
    write(keeper);
    FreeBulkInsertState(keeper.bulk);
    ExecDropSingleTupleTableSlot(keeper.slot);
    MemoryContextDelete(keeper.memory);
    table_close(keeper.table, NoLock);
}

/// How many left, by service.
struct Tally {
    struct One {
        std::string_view service;
        std::int64_t users;
    };
    One* all;
    int count;

    void add(std::string_view service) {
        int i = 0;
        while (i < count && all[i].service != service) ++i;
        if (i == count) {
            const Size size = sizeof(One) * static_cast<Size>(count + 1);
            all = static_cast<One*>(all ? repalloc(all, size) : palloc(size));
            all[count++] = {{pnstrdup(service.data(), service.size()), service.size()}, 0};
        }
        ++all[i].users;
    }
};

}  // namespace

bool can_expire(const World& world) {
    if (!OidIsValid(world.cohort_by_time)) return false;
    return pg::guard([&] {
        Relation const cohort = table_open(world.cohort_table, RowExclusiveLock);
        Relation const departures = table_open(world.departures_table, RowExclusiveLock);
        const bool can = pg::writable_directly(cohort, world.on_cohort, ACL_DELETE) &&
                         pg::writable_directly(departures, pg::Known{{}, 1}, ACL_INSERT);
        table_close(departures, NoLock);
        table_close(cohort, NoLock);
        return can;
    });
}

Expired expire(const World& world, Instant cutoff, const std::vector<std::string_view>& reserved,
               std::int64_t max_rows) {
    Expired expired;
    const Tally tally = pg::guard([&, first = reserved.data(), last = reserved.data() + reserved.size()] {
        PreventCommandIfReadOnly("mau.reap()");
        Tally gone{};
        CommandId const command = GetCurrentCommandId(true);
        Sweep sweep;
        begin(sweep, world, cutoff);
        auto& keeper = *static_cast<Keeper*>(palloc(sizeof(Keeper)));
        open(keeper, world, command);
        for (std::int64_t room = max_rows; room > 0 && take_portion(sweep, room);)
            while (advance(sweep)) {
                const Instant at = DatumGetInt64(column(sweep, kTimestamp));
                const std::string_view user_id = text_of(column(sweep, kUserId));
                // The list is that of reserved threepids' owners, and short.
                if (at >= cutoff) expired.seen_since = true;
                if (at >= cutoff || std::find(first, last, user_id) != last) continue;
                if (!pg::delete_row(sweep.table, sweep.slot, command, sweep.snapshot)) continue;
                keep(keeper, user_id, at);
                gone.add(text_of(column(sweep, kService)));
                --room;
            }
        close(keeper);
        end(sweep);
        CommandCounterIncrement();
        return gone;
    });
    for (int i = 0; i < tally.count; ++i)
        expired.left.push_back({std::string(tally.all[i].service), tally.all[i].users});
    return expired;
}

bool forget(std::string_view user_id) {
    static pg::Statement waiting("SELECT FROM " MAU_DEPARTED " d WHERE d.user_id OPERATOR(pg_catalog.=) $1",
                                 {TEXTOID});
    static pg::Statement take_out(
        "WITH gone AS ("
        "  DELETE FROM mau.departures p WHERE $1 OPERATOR(pg_catalog.=) ANY (p.user_ids)"
        "  RETURNING p.ctid AS id, p.user_ids, p.last_seen"
        ") INSERT INTO mau.departures (user_ids, last_seen)"
        " SELECT pg_catalog.array_agg(v.user_id), pg_catalog.array_agg(v.at) FROM gone g,"
        "   ROWS FROM (pg_catalog.unnest(g.user_ids), pg_catalog.unnest(g.last_seen)) v(user_id, at)"
        "  WHERE v.user_id OPERATOR(pg_catalog.<>) $1 GROUP BY g.id",
        {TEXTOID});
    bool was_there = false;
    // Whoever settles the row just now may keep the user for the next time, in another row.
    for (; !waiting.read_latest(user_id).empty(); was_there = true) {
        pg::guard([] { CHECK_FOR_INTERRUPTS(); });
        take_out.write(user_id);
    }
    return was_there;
}

std::int64_t settle(std::int64_t max_users) {
    const seats::ToldAbout told;  // last sightings say nothing of accounts
    std::int64_t settled = 0;
    while (settled < max_users) {
        pg::guard([] { CHECK_FOR_INTERRUPTS(); });
        const pg::Rows done = settle_query.write();
        const std::int64_t met = done.at(0, 0).integer(), locked = done.at(0, 1).integer();
        settled += met - locked;
        if (met == 0 || locked > 0) break;  // what is locked comes again; next time
    }
    return settled;
}

}  // namespace mau::departures
