// What this relies on, beside PostgreSQL's interface for table access methods; alike from 15 to 18, but for
// what compat.hpp hides (update_tuple, begin_index_scan):
//
// The bit HEAP_XMAX_INVALID and the raw xmax in a tuple's header say whether a transaction has changed or
// locked it. The functions of the interface tell only of locks that they would have to wait for.
//
// heap_hot_search_buffer() finds the versions of a row from its index entry, and heap_page_prune_opt() prunes
// a page, in the way of index_fetch_heap() and heapam_index_fetch_tuple().
//
// heap_update() and heap_delete() that do not wait refuse a tuple with any lock, our own included.
//
// Triggers, rules, row security, generated columns, constraints, children: an update is no statement, so none
// of them would take effect. `writable_directly` is false for a table that has any but mau's own, and the
// caller writes by SQL. A table with children, or another access method, is not plain, and is not opened.
// Logical decoding and replication: heap_update() logs what they need, by the table's replica identity, as
// for a statement.
#include "pg/heap.hpp"

#include <algorithm>

#include "pg/plain.hpp"

namespace mau::pg {

namespace {

/// Whether a tuple that a dirty snapshot showed belongs to another transaction in progress.
bool unfinished(const SnapshotData& dirty) {
    return TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax);
}

/// Whether `such` is true of one of the transactions that hold a row lock (FOR UPDATE and the like) on the
/// tuple, or have held it last.
bool locked_by(TupleTableSlot* slot, bool (*such)(TransactionId)) {
    const auto* const buffered = reinterpret_cast<BufferHeapTupleTableSlot*>(slot);
    HeapTupleHeader const header = buffered->base.tuple->t_data;
    if (header->t_infomask & HEAP_XMAX_INVALID) return false;
    // xmax and its infomask are read together, under the buffer lock.
    if (BufferIsValid(buffered->buffer)) LockBuffer(buffered->buffer, BUFFER_LOCK_SHARE);
    const std::uint16_t infomask = header->t_infomask;
    TransactionId const locker = HeapTupleHeaderGetRawXmax(header);
    if (BufferIsValid(buffered->buffer)) LockBuffer(buffered->buffer, BUFFER_LOCK_UNLOCK);
    if (infomask & HEAP_XMAX_INVALID) return false;
    if (!(infomask & HEAP_XMAX_IS_MULTI)) return such(locker);
    // Savepoints make us members of a multixact too.
    MultiXactMember* members = nullptr;
    int const count = GetMultiXactIdMembers(locker, &members, false, HEAP_XMAX_IS_LOCKED_ONLY(infomask));
    bool found = false;
    for (int i = 0; i < count && !found; ++i) found = such(members[i].xid);
    if (count > 0) pfree(members);
    return found;
}

/// Whether another transaction, not done yet, holds a row lock on the tuple.
bool locked_by_other(TupleTableSlot* slot) {
    return locked_by(slot, [](TransactionId xid) {
        return !TransactionIdIsCurrentTransactionId(xid) && TransactionIdIsInProgress(xid);
    });
}

/// Whether our own transaction holds a row lock on the tuple, perhaps with others.
bool locked_by_ourselves(TupleTableSlot* slot) {
    return locked_by(slot, TransactionIdIsCurrentTransactionId);
}

/// Whether no transaction, in progress or ended, is recorded as the updater or locker of the tuple.
bool has_no_locks(TupleTableSlot* slot) {
    return (reinterpret_cast<BufferHeapTupleTableSlot*>(slot)->base.tuple->t_data->t_infomask &
            HEAP_XMAX_INVALID) != 0;
}

/// Makes the index entries of a new version, as the executor does.
void add_index_entries(Relation table, TupleTableSlot* slot, bool only_summarizing) {
    EState* const state = CreateExecutorState();
    auto* const result = makeNode(ResultRelInfo);
    InitResultRelInfo(result, table, 0, nullptr, 0);
    ExecOpenIndices(result, false);
    list_free(compat::insert_index_tuples(result, slot, state, only_summarizing));
    ExecCloseIndices(result);
    FreeExecutorState(state);
    pfree(result);
}

}  // namespace

bool writable_directly(Relation table, const OwnObjects& own, AclMode right) {
    if (table->rd_rel->relrowsecurity || table->rd_rules) return false;
    const TupleConstr* const constraints = RelationGetDescr(table)->constr;
    if (constraints && (constraints->has_generated_stored || constraints->num_check > own.checks))
        return false;
    const TriggerDesc* const triggers = table->trigdesc;
    for (int i = 0; triggers && i < triggers->numtriggers; ++i) {
        Oid const function = triggers->triggers[i].tgfoid;
        if (function != own.triggers[0] && function != own.triggers[1]) return false;
    }
    Oid const id = RelationGetRelid(table), role = GetUserId();
    if (pg_class_aclcheck(id, role, right) == ACLCHECK_OK) return true;
    return right == ACL_UPDATE && std::all_of(own.updated, own.updated + 2, [&](int column) {
               const auto number = static_cast<AttrNumber>(column + 1);
               return column >= 0 && pg_attribute_aclcheck(id, number, role, right) == ACLCHECK_OK;
           });
}

void KeyedTable::open(Oid table, Oid index, const char* name) {
    guard([&] {
        check_rights(table, ACL_SELECT);
        table_ = open_plain(table, AccessShareLock);
        index_ = open_index(table_, index, name);
        slot_ = table_slot_create(table_, nullptr);
        InitDirtySnapshot(dirty_);
        scan_ = compat::begin_index_scan(table_, index_, &dirty_, 1);
    });
}

Found KeyedTable::find(Datum key) {
    return guard([&]() -> Found {
        Found found;
        ScanKeyData scan_key;
        ScanKeyEntryInitialize(&scan_key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
                               key);
        step(scan_, [&] { return index_rescan(scan_, &scan_key, 1, nullptr, 0), true; });
        ExecClearTuple(slot_);
        const int key_column = index_->rd_index->indkey.values[0] - 1;
        while (next_version()) {
            if (unfinished(dirty_) || locked_by_other(slot_)) found.in_flight = true;
            if (TransactionIdIsValid(dirty_.xmin) || found.exists) continue;
            found.exists = true;
            slot_getallattrs(slot_);
            TupleDesc const shape = slot_->tts_tupleDescriptor;
            for (int i = 0; i < shape->natts && i < Found::kMaxColumns; ++i) {
                found.nulls[i] = slot_->tts_isnull[i] || i == key_column;
                if (found.nulls[i]) continue;
                Form_pg_attribute const column = TupleDescAttr(shape, i);
                found.values[i] = column->attlen == -1  // may be compressed, or kept out of line
                                      ? PointerGetDatum(PG_DETOAST_DATUM_COPY(slot_->tts_values[i]))
                                      : datumCopy(slot_->tts_values[i], column->attbyval, column->attlen);
            }
            if (!found.in_flight) return found;  // the key is unique: there is no other version
        }
        ExecClearTuple(slot_);
        return found;
    });
}

/// The next version of the row that the dirty snapshot shows. An index scan prunes a heap page as soon as it
/// has less room than the fillfactor leaves: here, after every update. So the heap page is read without that,
/// and pruned once its room is used up, for many updates at once.
bool KeyedTable::next_version() {
    auto* const slot = reinterpret_cast<BufferHeapTupleTableSlot*>(slot_);
    HeapTuple const tuple = &slot->base.tupdata;
    ItemPointer const tid = &scan_->xs_heaptid;
    for (;;) {
        const bool first = !scan_->xs_heap_continue;
        if (first) {
            if (!next_tid(scan_)) return false;
            ExecClearTuple(slot_);
            page_ = ReleaseAndReadBuffer(page_, table_, ItemPointerGetBlockNumber(tid));
            Page const page = BufferGetPage(page_);
            if (PageIsFull(page) || PageGetHeapFreeSpace(page) < kRoom) heap_page_prune_opt(table_, page_);
        }
        bool all_dead = false;
        LockBuffer(page_, BUFFER_LOCK_SHARE);
        const bool found =
            heap_hot_search_buffer(tid, table_, page_, &dirty_, tuple, first ? &all_dead : nullptr, first);
        LockBuffer(page_, BUFFER_LOCK_UNLOCK);
        // As in index_fetch_heap(): no transaction needs the index entry any more.
        if (first && !scan_->xactStartedInRecovery) scan_->kill_prior_tuple = all_dead;
        scan_->xs_heap_continue = found;  // there may be another version that the dirty snapshot shows
        if (!found) continue;
        pgstat_count_heap_fetch(index_);
        tuple->t_self = *tid;
        slot_->tts_tableOid = RelationGetRelid(table_);
        ExecStoreBufferHeapTuple(tuple, slot_, page_);
        return true;
    }
}

/// Locks a row without waiting. After it an update cannot wait: others can have key share only.
bool KeyedTable::lock_row(ItemPointer tid) {
    TupleTableSlot* const locked = table_slot_create(table_, nullptr);
    TM_FailureData failure;
    const bool done = table_tuple_lock(table_, tid, GetActiveSnapshot(), locked, GetCurrentCommandId(true),
                                       LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure) == TM_Ok;
    ExecDropSingleTupleTableSlot(locked);
    return done;
}

bool KeyedTable::allows_updates(const OwnObjects& own) {
    return guard([&] {
        CommandCounterIncrement();  // rows that this very statement has written can be changed once more
        return writable_directly(table_, own, ACL_UPDATE);
    });
}

bool KeyedTable::update(const Change* changes, int count) {
    return guard([&] {
        if (TTS_EMPTY(slot_)) return false;
        if (!fresh_) fresh_ = MakeSingleTupleTableSlot(RelationGetDescr(table_), &TTSOpsVirtual);
        ItemPointerData tid = slot_->tts_tid;
        // A row without a lock is updated at once. Without waiting, heap_update() refuses a row that has any
        // row lock, even our own or a key share. So such a row is locked first; then the update cannot wait.
        const bool unlocked = has_no_locks(slot_);
        if (!unlocked && !lock_row(&tid)) return false;
        const auto columns = static_cast<std::size_t>(RelationGetDescr(table_)->natts);
        ExecClearTuple(fresh_);
        std::memcpy(fresh_->tts_values, slot_->tts_values, columns * sizeof(Datum));
        std::memcpy(fresh_->tts_isnull, slot_->tts_isnull, columns * sizeof(bool));
        for (int i = 0; i < count; ++i) {
            fresh_->tts_values[changes[i].column] = changes[i].value;
            fresh_->tts_isnull[changes[i].column] = false;
        }
        ExecStoreVirtualTuple(fresh_);
        bool new_index_entries = false, only_summarizing = false;
        const bool done = compat::update_tuple(table_, &tid, fresh_, !unlocked, &new_index_entries,
                                               &only_summarizing) == TM_Ok;
        if (done && new_index_entries) add_index_entries(table_, fresh_, only_summarizing);
        ExecClearTuple(fresh_);
        ExecClearTuple(slot_);
        return done;
    });
}

void KeyedTable::close() {
    guard([&] {
        if (BufferIsValid(page_)) ReleaseBuffer(page_);
        page_ = InvalidBuffer;
        index_endscan(scan_);
        if (fresh_) ExecDropSingleTupleTableSlot(fresh_);
        ExecDropSingleTupleTableSlot(slot_);
        index_close(index_, AccessShareLock);
        table_close(table_, AccessShareLock);
    });
}

bool delete_row(Relation table, TupleTableSlot* slot, CommandId command, Snapshot snapshot) {
    // Where we hold a row lock ourselves (perhaps from an earlier statement), the row is "being modified".
    // Our own lock is then no obstacle; where others hold one, too, nothing is done.
    const bool wait = locked_by_ourselves(slot) && !locked_by_other(slot);
    TM_FailureData failure;
    return table_tuple_delete(table, &slot->tts_tid, command, snapshot, InvalidSnapshot, wait, &failure,
                              false) == TM_Ok;
}

}  // namespace mau::pg
