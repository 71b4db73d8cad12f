#include "pg/table.hpp"

#include "pg/plain.hpp"

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

void IndexedTable::open(Oid table, Oid index, const char* name) {
    check_rights(table, ACL_SELECT);
    table_ = open_plain(table, AccessShareLock);
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
