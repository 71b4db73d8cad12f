#include "source/reader.hpp"

#include "pg/plain.hpp"

namespace mau::source {

ReadAs::ReadAs(Oid role, const std::optional<std::string>& time_zone) {
    pg::guard([&, zone = time_zone ? time_zone->c_str() : nullptr] {
        GetUserIdAndSecContext(&saved_role_, &saved_context_);
        SetUserIdAndSecContext(role,
                               saved_context_ | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
        settings_ = NewGUCNestLevel();
        // Hidden rows would make figures wrong; PostgreSQL raises instead.
        SetConfigOption("row_security", "off", PGC_USERSET, PGC_S_SESSION);
        if (zone) SetConfigOption("TimeZone", zone, PGC_USERSET, PGC_S_SESSION);
    });
}

void ReadAs::done() {
    pg::guard([&] {
        AtEOXact_GUC(false, settings_);
        SetUserIdAndSecContext(saved_role_, saved_context_);
    });
}

std::optional<Oid> share(const std::vector<Oid>& tables) {
    constexpr int kTries = 40;
    constexpr long kPause = 50;  // milliseconds
    const Oid missed = pg::guard([first = tables.data(), count = tables.size()]() -> Oid {
        for (int tries = 1;; ++tries) {
            std::size_t got = 0;
            while (got < count && ConditionalLockRelationOid(first[got], AccessShareLock)) ++got;
            if (got == count) return InvalidOid;
            for (std::size_t i = 0; i < got; ++i) UnlockRelationOid(first[i], AccessShareLock);
            if (tries == kTries) return first[got];
            WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPause, PG_WAIT_EXTENSION);
            ResetLatch(MyLatch);
            CHECK_FOR_INTERRUPTS();
        }
    });
    return OidIsValid(missed) ? std::optional<Oid>(missed) : std::nullopt;
}

namespace {

/// Whether the role may read ctid, the place of a row in the table; with column privileges it needs one for
/// ctid, too.
bool may_read_places(Oid table, Oid role) {
    return pg::guard([&] {
        return pg_class_aclcheck(table, role, ACL_SELECT) == ACLCHECK_OK ||
               pg_attribute_aclcheck(table, SelfItemPointerAttributeNumber, role, ACL_SELECT) == ACLCHECK_OK;
    });
}

}  // namespace

bool has_pages(Oid table, Oid role) {
    if (!may_read_places(table, role)) return false;
    return pg::guard([&] {
        Relation const relation = relation_open(table, AccessShareLock);
        const bool logged = relation->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT;
        const bool has = logged && !pg::why_not_plain(relation).reason;
        relation_close(relation, AccessShareLock);
        return has;
    });
}

std::vector<Blocks> changed_blocks(Oid table, std::int64_t after, std::uint32_t near) {
    struct Seen {
        std::uint32_t count;
        Blocks* runs;
    };
    const Seen seen = pg::guard([&]() -> Seen {
        Relation const relation = table_open(table, AccessShareLock);
        BlockNumber const end = RelationGetNumberOfBlocks(relation);
        std::uint32_t room = 64;
        Seen result{0, static_cast<Blocks*>(palloc(sizeof(Blocks) * room))};
        BufferAccessStrategy const ring = GetAccessStrategy(BAS_BULKREAD);  // leaves the cache to others
        for (BlockNumber block = 0; block < end; ++block) {
            CHECK_FOR_INTERRUPTS();
            if (after > 0) {
                Buffer const buffer = ReadBufferExtended(relation, MAIN_FORKNUM, block, RBM_NORMAL, ring);
                XLogRecPtr const changed = BufferGetLSNAtomic(buffer);
                ReleaseBuffer(buffer);
                if (changed <= static_cast<XLogRecPtr>(after)) continue;
            }
            if (result.count > 0 && block - result.runs[result.count - 1].end < near) {
                result.runs[result.count - 1].end = block + 1;
                continue;
            }
            if (result.count == room) {
                room *= 2;
                result.runs = static_cast<Blocks*>(repalloc(result.runs, sizeof(Blocks) * room));
            }
            result.runs[result.count++] = {block, block + 1};
        }
        FreeAccessStrategy(ring);
        relation_close(relation, AccessShareLock);
        return result;
    });
    return {seen.runs, seen.runs + seen.count};
}

std::int64_t filenode_of(Oid table) {
    static pg::Statement query("SELECT coalesce(pg_relation_filenode($1)::int8, 0)", {OIDOID});
    return query.read(static_cast<std::int64_t>(table)).at(0, 0).integer();
}

std::int64_t system_identifier() {
    return static_cast<std::int64_t>(GetSystemIdentifier());
}

namespace {

/// The oldest transaction below `next` that other sessions, or prepared transactions, run in this database;
/// `next` without one. A backend call.
std::uint64_t oldest_open_before(std::uint64_t next) {
    PGPROC* const groups[] = {ProcGlobal->allProcs, PreparedXactProcs};
    std::uint32_t const sizes[] = {ProcGlobal->allProcCount, static_cast<std::uint32_t>(max_prepared_xacts)};
    auto* const open = static_cast<TransactionId*>(palloc(sizeof(TransactionId) * (sizes[0] + sizes[1])));
    std::uint32_t count = 0;
    LWLockAcquire(ProcArrayLock, LW_SHARED);  // no transaction ends meanwhile
    for (int group = 0; group < 2; ++group)
        for (std::uint32_t i = 0; i < sizes[group]; ++i) {
            volatile PGPROC const& process = groups[group][i];
            TransactionId const xid = process.xid;
            if (&process != MyProc && process.databaseId == MyDatabaseId && TransactionIdIsNormal(xid))
                open[count++] = xid;
        }
    LWLockRelease(ProcArrayLock);
    std::uint64_t oldest = next;
    for (std::uint32_t i = 0; i < count; ++i) {
        std::int32_t const age = static_cast<std::int32_t>(static_cast<std::uint32_t>(next) - open[i]);
        if (age <= 0 || next - static_cast<std::uint32_t>(age) >= oldest) continue;
        // A prepared transaction that has ended leaves its number behind.
        if (TransactionIdIsInProgress(open[i])) oldest = next - static_cast<std::uint32_t>(age);
    }
    pfree(open);
    return oldest;
}

}  // namespace

Mark take_mark() {
    return pg::guard([]() -> Mark {
        Mark mark;
        mark.lsn = static_cast<std::int64_t>(RecoveryInProgress() ? GetXLogReplayRecPtr(nullptr)
                                                                  : GetXLogInsertRecPtr());
        const std::uint64_t next = U64FromFullTransactionId(ReadNextFullTransactionId());
        mark.next_xid = static_cast<std::int64_t>(next);
        mark.oldest_open = static_cast<std::int64_t>(oldest_open_before(next));
        PushActiveSnapshot(GetLatestSnapshot());
        return mark;
    });
}

TableState advance(const TableState& known, std::int64_t filenode, const Mark& mark) {
    TableState state{filenode, known.until, known.pending_until, known.pending_xid};
    if (mark.oldest_open >= mark.next_xid) {  // no transaction was in progress: this mark can be trusted
        state.until = mark.lsn;
        state.pending_until = state.pending_xid = std::nullopt;
        return state;
    }
    if (known.pending_xid && mark.oldest_open >= *known.pending_xid) state.until = known.pending_until;
    if (!known.pending_xid || mark.oldest_open >= *known.pending_xid) {
        state.pending_until = mark.lsn;
        state.pending_xid = mark.next_xid;
    }
    return state;
}

}  // namespace mau::source
