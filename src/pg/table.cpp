#include "pg/table.hpp"

namespace mau::pg {

namespace {

LOCKTAG tag_of(LockSpace space, std::uint64_t key) {
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(key >> 32), static_cast<uint32>(key),
                         static_cast<uint16>(space));
    return tag;
}

/// Whether a tuple that a dirty snapshot showed belongs to a transaction of somebody else that is not done.
bool unfinished(const SnapshotData& dirty) {
    return TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax);
}

/// Whether another transaction, not done yet, holds a row lock (FOR UPDATE and the like) on the tuple.
bool locked_by_other(TupleTableSlot* slot) {
    if (!TTS_IS_BUFFERTUPLE(slot)) return false;
    HeapTupleHeader const header = reinterpret_cast<BufferHeapTupleTableSlot*>(slot)->base.tuple->t_data;
    if (header->t_infomask & HEAP_XMAX_INVALID) return false;
    auto other = [](TransactionId xid) {
        return !TransactionIdIsCurrentTransactionId(xid) && TransactionIdIsInProgress(xid);
    };
    TransactionId const locker = HeapTupleHeaderGetRawXmax(header);
    if (!(header->t_infomask & HEAP_XMAX_IS_MULTI)) return other(locker);
    // Savepoints make us members of a multixact too.
    MultiXactMember* members = nullptr;
    int const count =
        GetMultiXactIdMembers(locker, &members, false, HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask));
    bool found = false;
    for (int i = 0; i < count && !found; ++i) found = other(members[i].xid);
    if (count > 0) pfree(members);
    return found;
}

}  // namespace

void KeyedTable::open(Oid table, Oid index) {
    guard([&] {
        AclResult const rights = pg_class_aclcheck(table, GetUserId(), ACL_SELECT);
        if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, get_rel_name(table));
        table_ = table_open(table, AccessShareLock);
        index_ = index_open(index, AccessShareLock);
        slot_ = table_slot_create(table_, nullptr);
    });
}

Found KeyedTable::find(std::string_view key) {
    return guard([&]() -> Found {
        Found found;
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        ScanKeyData scan_key;
        ScanKeyEntryInitialize(
            &scan_key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
            PointerGetDatum(cstring_to_text_with_len(key.data(), static_cast<int>(key.size()))));
        IndexScanDesc scan = compat::begin_index_scan(table_, index_, &dirty, 1);
        index_rescan(scan, &scan_key, 1, nullptr, 0);
        while (index_getnext_slot(scan, ForwardScanDirection, slot_)) {
            if (unfinished(dirty) || locked_by_other(slot_)) found.in_flight = true;
            if (TransactionIdIsValid(dirty.xmin) || found.exists) continue;
            found.exists = true;
            slot_getallattrs(slot_);
            TupleDesc const shape = slot_->tts_tupleDescriptor;
            for (int i = 0; i < shape->natts && i < Found::kMaxColumns; ++i) {
                found.nulls[i] = slot_->tts_isnull[i];
                if (found.nulls[i]) continue;
                Form_pg_attribute const column = TupleDescAttr(shape, i);
                found.values[i] = column->attlen == -1  // may be compressed, or kept out of line
                                      ? PointerGetDatum(PG_DETOAST_DATUM_COPY(slot_->tts_values[i]))
                                      : datumCopy(slot_->tts_values[i], column->attbyval, column->attlen);
            }
        }
        index_endscan(scan);
        ExecClearTuple(slot_);
        return found;
    });
}

void KeyedTable::close() {
    guard([&] {
        ExecDropSingleTupleTableSlot(slot_);
        index_close(index_, AccessShareLock);
        table_close(table_, AccessShareLock);
    });
}

void IndexWalk::open(Oid table, Oid index) {
    AclResult const rights = pg_class_aclcheck(table, GetUserId(), ACL_SELECT);
    if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, get_rel_name(table));
    table_ = table_open(table, AccessShareLock);
    index_ = index_open(index, AccessShareLock);
    slot_ = table_slot_create(table_, nullptr);
}

void IndexWalk::begin(Snapshot snapshot, ScanKey keys, int count, ScanDirection direction) {
    direction_ = direction;
    scan_ = compat::begin_index_scan(table_, index_, snapshot, count);
    index_rescan(scan_, keys, count, nullptr, 0);
}

TupleTableSlot* IndexWalk::next() {
    if (!index_getnext_slot(scan_, direction_, slot_)) return nullptr;
    slot_getallattrs(slot_);
    return slot_;
}

void IndexWalk::end() {
    index_endscan(scan_);
    ExecClearTuple(slot_);
}

void IndexWalk::close() {
    ExecDropSingleTupleTableSlot(slot_);
    index_close(index_, AccessShareLock);
    table_close(table_, AccessShareLock);
}

void EntryWalk::open(Oid table, Oid index) {
    AclResult const rights = pg_class_aclcheck(table, GetUserId(), ACL_SELECT);
    if (rights != ACLCHECK_OK) aclcheck_error(rights, OBJECT_TABLE, get_rel_name(table));
    table_ = table_open(table, AccessShareLock);
    index_ = index_open(index, AccessShareLock);
    slot_ = table_slot_create(table_, nullptr);
}

void EntryWalk::begin(Snapshot snapshot, ScanKey keys, int count) {
    scan_ = compat::begin_index_scan(table_, index_, snapshot, count);
    scan_->xs_want_itup = true;
    index_rescan(scan_, keys, count, nullptr, 0);
}

const Datum* EntryWalk::next() {
    while (ItemPointer const place = index_getnext_tid(scan_, ForwardScanDirection)) {
        BlockNumber const page = ItemPointerGetBlockNumber(place);
        if (!VM_ALL_VISIBLE(table_, page, &visibility_)) {
            if (!index_fetch_heap(scan_, slot_)) continue;
            ExecClearTuple(slot_);
        } else {
            PredicateLockPage(table_, page, scan_->xs_snapshot);
        }
        index_deform_tuple(scan_->xs_itup, scan_->xs_itupdesc, values_, nulls_);
        return values_;
    }
    return nullptr;
}

void EntryWalk::close() {
    if (BufferIsValid(visibility_)) ReleaseBuffer(visibility_);
    visibility_ = InvalidBuffer;
    if (scan_) index_endscan(scan_);
    scan_ = nullptr;
    ExecDropSingleTupleTableSlot(slot_);
    index_close(index_, AccessShareLock);
    table_close(table_, AccessShareLock);
}

bool try_lock(LockSpace space, std::uint64_t key) {
    return guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
    });
}

bool try_session_lock(LockSpace space, std::uint64_t key) {
    return guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
    });
}

void take_lock(LockSpace space, std::uint64_t key) {
    guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        LockAcquire(&tag, ExclusiveLock, false, false);
    });
}

void release_lock(LockSpace space, std::uint64_t key) {
    guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        LockRelease(&tag, ExclusiveLock, false);
    });
}

bool try_table_lock(Oid table, LOCKMODE mode) {
    return guard([&] { return ConditionalLockRelationOid(table, mode); });
}

bool try_read_lock(Oid table) {
    return guard([&] {
        if (!ConditionalLockRelationOid(table, AccessShareLock)) return false;
        Relation const relation = table_open(table, NoLock);
        List* const indexes = RelationGetIndexList(relation);
        table_close(relation, NoLock);
        ListCell* cell;
        foreach (cell, indexes)
            if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock)) return false;
        return true;
    });
}

std::uint64_t hash(std::string_view id) {
    return hash_bytes_extended(reinterpret_cast<const unsigned char*>(id.data()), static_cast<int>(id.size()),
                               0);
}

}  // namespace mau::pg
