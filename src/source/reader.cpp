#include "source/reader.hpp"

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

bool may_read_places(Oid table, Oid role) {
    return pg::guard([&] {
        return pg_class_aclcheck(table, role, ACL_SELECT) == ACLCHECK_OK ||
               pg_attribute_aclcheck(table, SelfItemPointerAttributeNumber, role, ACL_SELECT) == ACLCHECK_OK;
    });
}

std::optional<std::vector<Blocks>> changed_blocks(Oid table, std::int64_t after, std::uint32_t near) {
    struct Seen {
        bool plain;
        std::uint32_t count;
        Blocks* runs;
    };
    const Seen seen = pg::guard([&]() -> Seen {
        Relation const relation = relation_open(table, AccessShareLock);
        Seen result{relation->rd_rel->relkind == RELKIND_RELATION && !relation->rd_rel->relhassubclass &&
                        relation->rd_rel->relam == HEAP_TABLE_AM_OID &&
                        relation->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT,
                    0, nullptr};
        if (result.plain) {
            BlockNumber const end = RelationGetNumberOfBlocks(relation);
            std::uint32_t room = 64;
            result.runs = static_cast<Blocks*>(palloc(sizeof(Blocks) * room));
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
        }
        relation_close(relation, AccessShareLock);
        return result;
    });
    if (!seen.plain) return std::nullopt;
    return std::vector<Blocks>(seen.runs, seen.runs + seen.count);
}

std::int64_t filenode_of(Oid table) {
    static pg::Statement query("SELECT coalesce(pg_relation_filenode($1)::int8, 0)", {OIDOID});
    return query.read(static_cast<std::int64_t>(table)).at(0, 0).integer();
}

Mark take_mark() {
    return pg::guard([]() -> Mark {
        Mark mark;
        mark.lsn = static_cast<std::int64_t>(RecoveryInProgress() ? GetXLogReplayRecPtr(nullptr)
                                                                  : GetXLogInsertRecPtr());
        const std::uint64_t next = U64FromFullTransactionId(ReadNextFullTransactionId());
        mark.next_xid = static_cast<std::int64_t>(next);
        PushActiveSnapshot(GetLatestSnapshot());
        Snapshot const snapshot = GetActiveSnapshot();
        TransactionId oldest = snapshot->xmax;  // a transaction in progress is at least this, or in xip
        for (std::uint32_t i = 0; i < snapshot->xcnt; ++i)
            if (TransactionIdPrecedes(snapshot->xip[i], oldest)) oldest = snapshot->xip[i];
        mark.oldest_open = static_cast<std::int64_t>(next) -
                           static_cast<std::int32_t>(static_cast<std::uint32_t>(next) - oldest);
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
