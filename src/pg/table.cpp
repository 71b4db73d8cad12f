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

}  // namespace

// DROP INDEX and REINDEX CONCURRENTLY mark an index as invalid without a lock that keeps us from the table,
// and then wait for the transactions that use it: as long as it is live and ready it has every row.
Relation open_index(Relation table, Oid index, const char* name) {
    Relation const opened = OidIsValid(index) ? try_relation_open(index, AccessShareLock) : nullptr;
    if (opened && opened->rd_index && opened->rd_index->indisready && opened->rd_index->indislive)
        return opened;
    if (opened) index_close(opened, AccessShareLock);
    return open_index(table, name);
}

void check_rights(Oid table, AclMode rights) {
    AclResult const result = pg_class_aclcheck(table, GetUserId(), rights);
    if (result != ACLCHECK_OK) aclcheck_error(result, OBJECT_TABLE, get_rel_name(table));
    if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("query would be affected by row-level security policy for table \"%s\"",
                               get_rel_name(table)),
                        errhint("Run what mau.row_security_off() returns.")));
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

void add_index_entries(Relation table, TupleTableSlot** slots, int count, bool only_summarizing) {
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
