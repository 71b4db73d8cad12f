#include "pg/table.hpp"

#include <algorithm>

namespace mau::pg {

namespace {

bool is_usable(Relation index) {
    return index->rd_index->indisvalid && index->rd_index->indisready && index->rd_index->indislive;
}

/// Opens an index of a locked table by its name.
Relation open_index(Relation table, const char* name) {
    Oid const index = get_relname_relid(name, RelationGetNamespace(table));
    Relation const opened = OidIsValid(index) ? try_relation_open(index, AccessShareLock) : nullptr;
    if (opened && opened->rd_index && is_usable(opened)) return opened;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("mau's index \"%s\" is missing", name),
             errdetail("It is an index of \"%s\".", RelationGetRelationName(table)),
             errhint("Create it again as in the extension's script, or end what is building it.")));
    pg_unreachable();
}

/// Opens an index that was usable when it was looked up; it may have been replaced since. DROP INDEX and
/// REINDEX CONCURRENTLY mark an index as invalid without a lock that keeps us from the table, and then wait
/// for the transactions that use it: as long as it is live and ready it has every row.
Relation open_index(Relation table, Oid index, const char* name) {
    Relation const opened = OidIsValid(index) ? try_relation_open(index, AccessShareLock) : nullptr;
    if (opened && opened->rd_index && opened->rd_index->indisready && opened->rd_index->indislive)
        return opened;
    if (opened) index_close(opened, AccessShareLock);
    return open_index(table, name);
}

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
    return TTS_IS_BUFFERTUPLE(slot) && locked_by(slot, [](TransactionId xid) {
               return !TransactionIdIsCurrentTransactionId(xid) && TransactionIdIsInProgress(xid);
           });
}

/// Whether our own transaction holds a row lock on the tuple, perhaps with others.
bool locked_by_ourselves(TupleTableSlot* slot) {
    return !TTS_IS_BUFFERTUPLE(slot) || locked_by(slot, TransactionIdIsCurrentTransactionId);
}

/// Whether no transaction, in progress or ended, is recorded as the updater or locker of the tuple.
bool has_no_locks(TupleTableSlot* slot) {
    return TTS_IS_BUFFERTUPLE(slot) &&
           (reinterpret_cast<BufferHeapTupleTableSlot*>(slot)->base.tuple->t_data->t_infomask &
            HEAP_XMAX_INVALID) != 0;
}

/// Makes a step of a scan in the memory that the scan was begun in. An index may keep what it allocates at a
/// step until the scan ends, and the caller's memory may be reset before.
template <class Step>
auto step(IndexScanDesc scan, Step&& make) {
    MemoryContext const callers = MemoryContextSwitchTo(GetMemoryChunkContext(scan));
    const auto answer = make();
    MemoryContextSwitchTo(callers);
    return answer;
}

bool next_slot(IndexScanDesc scan, ScanDirection direction, TupleTableSlot* slot) {
    return step(scan, [&] { return index_getnext_slot(scan, direction, slot); });
}

ItemPointer next_tid(IndexScanDesc scan) {
    return step(scan, [&] { return index_getnext_tid(scan, ForwardScanDirection); });
}

/// Makes the index entries of new tuples, as the executor does.
void add_index_entries(Relation table, TupleTableSlot** slots, int count, bool only_summarizing = false) {
    if (!table->rd_rel->relhasindex) return;
    EState* const state = CreateExecutorState();
    auto* const result = makeNode(ResultRelInfo);
    InitResultRelInfo(result, table, 0, nullptr, 0);
    ExecOpenIndices(result, false);
    for (int i = 0; i < count && result->ri_NumIndices > 0; ++i) {
        List* const recheck = compat::insert_index_tuples(result, slots[i], state, only_summarizing);
        list_free(recheck);
        ResetPerTupleExprContext(state);
    }
    ExecCloseIndices(result);
    FreeExecutorState(state);
    pfree(result);
}

}  // namespace

void check_rights(Oid table, AclMode rights) {
    AclResult const result = pg_class_aclcheck(table, GetUserId(), rights);
    if (result != ACLCHECK_OK) aclcheck_error(result, OBJECT_TABLE, get_rel_name(table));
    if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("query would be affected by row-level security policy for table \"%s\"",
                               get_rel_name(table)),
                        errhint("Run what mau.row_security_off() returns.")));
}

void KeyedTable::open(Oid table, Oid index, const char* name) {
    guard([&] {
        check_rights(table, ACL_SELECT);
        table_ = table_open(table, AccessShareLock);
        index_ = open_index(table_, index, name);
        slot_ = table_slot_create(table_, nullptr);
        is_heap_ = table_->rd_tableam == GetHeapamTableAmRoutine();
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
    if (!is_heap_) return next_slot(scan_, ForwardScanDirection, slot_);
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
        end_command();  // rows that this very statement has written can be changed once more
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
        if (done && new_index_entries) add_index_entries(table_, &fresh_, 1, only_summarizing);
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

bool writable_directly(Relation table, const OwnObjects& own, AclMode right) {
    if (table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relispartition ||
        table->rd_rel->relhassubclass || table->rd_rel->relrowsecurity || table->rd_rules ||
        table->rd_tableam != GetHeapamTableAmRoutine())
        return false;
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

bool delete_row(Relation table, TupleTableSlot* slot, CommandId command, Snapshot snapshot) {
    // Where we hold a row lock ourselves (perhaps from an earlier statement), the row is "being modified".
    // Our own lock is then no obstacle; where others hold one, too, nothing is done.
    const bool wait = locked_by_ourselves(slot) && !locked_by_other(slot);
    TM_FailureData failure;
    return table_tuple_delete(table, &slot->tts_tid, command, snapshot, InvalidSnapshot, wait, &failure,
                              false) == TM_Ok;
}

Datum* Appender::row() {
    if (count_ == kRoom) flush();
    if (count_ == slots_made_) slots_[slots_made_++] = table_slot_create(table_, nullptr);
    TupleTableSlot* const slot = slots_[count_++];
    ExecClearTuple(slot);
    std::memset(slot->tts_isnull, 0, static_cast<std::size_t>(RelationGetDescr(table_)->natts));
    return slot->tts_values;
}

void Appender::flush() {
    if (count_ == 0) return;
    for (int i = 0; i < count_; ++i) ExecStoreVirtualTuple(slots_[i]);
    CommandId const command = GetCurrentCommandId(true);
    if (count_ == 1)
        table_tuple_insert(table_, slots_[0], command, 0, nullptr);
    else
        table_multi_insert(table_, slots_, count_, command, 0, nullptr);
    add_index_entries(table_, slots_, count_);
    count_ = 0;
}

void Appender::close() {
    flush();
    for (int i = 0; i < slots_made_; ++i) ExecDropSingleTupleTableSlot(slots_[i]);
    slots_made_ = 0;
}

void end_command() {
    CommandCounterIncrement();
}

void IndexedTable::open(Oid table, Oid index, const char* name) {
    check_rights(table, ACL_SELECT);
    table_ = table_open(table, AccessShareLock);
    index_ = open_index(table_, index, name);
    slot_ = table_slot_create(table_, nullptr);
}

void IndexedTable::open(Oid table, const char* name) {
    open(table, InvalidOid, name);
}

void IndexedTable::close() {
    ExecDropSingleTupleTableSlot(slot_);
    index_close(index_, AccessShareLock);
    table_close(table_, AccessShareLock);
}

void IndexWalk::begin(Snapshot snapshot, ScanKey keys, int count, ScanDirection direction) {
    direction_ = direction;
    scan_ = compat::begin_index_scan(table_, index_, snapshot, count);
    index_rescan(scan_, keys, count, nullptr, 0);
}

TupleTableSlot* IndexWalk::next() {
    if (!next_slot(scan_, direction_, slot_)) return nullptr;
    slot_getallattrs(slot_);
    return slot_;
}

void IndexWalk::end() {
    index_endscan(scan_);
    ExecClearTuple(slot_);
}

void EntryWalk::begin(Snapshot snapshot, ScanKey keys, int count) {
    scan_ = compat::begin_index_scan(table_, index_, snapshot, count);
    scan_->xs_want_itup = true;
    index_rescan(scan_, keys, count, nullptr, 0);
}

const Datum* EntryWalk::next() {
    while (ItemPointer const tid = next_tid(scan_)) {
        BlockNumber const page = ItemPointerGetBlockNumber(tid);
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
    IndexedTable::close();
}

Oid usable_index(const char* name, Oid table, bool unique) {
    return guard([&]() -> Oid {
        Oid const index = get_relname_relid(name, get_rel_namespace(table));
        HeapTuple const row =
            OidIsValid(index) ? SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index)) : nullptr;
        if (!HeapTupleIsValid(row)) return InvalidOid;
        auto* const form = reinterpret_cast<Form_pg_index>(GETSTRUCT(row));
        const bool usable = form->indrelid == table && form->indisvalid && form->indisready &&
                            form->indislive && (form->indisunique || !unique);
        ReleaseSysCache(row);
        return usable ? index : InvalidOid;
    });
}

}  // namespace mau::pg
