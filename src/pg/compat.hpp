// Differences between PostgreSQL 15 to 18, each behind a name. The prelude includes this file at its end.
#pragma once

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "mau is built for PostgreSQL 15 to 18"
#endif

namespace mau::pg::compat {

/// Begins an index scan with one key; PostgreSQL 18 added an argument for instrumentation.
inline IndexScanDesc begin_index_scan(Relation heap, Relation index, Snapshot snapshot, int keys) {
#if PG_VERSION_NUM >= 180000
    return index_beginscan(heap, index, snapshot, nullptr, keys, 0);
#else
    return index_beginscan(heap, index, snapshot, keys, 0);
#endif
}

/// Replaces a tuple. `wait`: whether to wait for transactions that hold it. Without it a held tuple is not
/// replaced; PostgreSQL built with assertions forbids that case, so pass false only for a tuple that nobody
/// held just before. `new_index_entries`: the new version needs index entries; from PostgreSQL 16 on perhaps
/// only in summarizing indexes (an administrator's BRIN).
inline TM_Result update_tuple(Relation table, ItemPointer tid, TupleTableSlot* tuple, bool wait,
                              bool* new_index_entries, bool* only_summarizing) {
    TM_FailureData failure;
    LockTupleMode mode = LockTupleNoKeyExclusive;
#if PG_VERSION_NUM >= 160000
    TU_UpdateIndexes entries = TU_None;
#else
    bool entries = false;
#endif
    TM_Result const result =
        table_tuple_update(table, tid, tuple, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot,
                           wait, &failure, &mode, &entries);
#if PG_VERSION_NUM >= 160000
    *new_index_entries = result == TM_Ok && entries != TU_None;
    *only_summarizing = entries == TU_Summarizing;
#else
    *new_index_entries = result == TM_Ok && entries;
    *only_summarizing = false;
#endif
    return result;
}

/// Makes a tuple's entries in all indexes; 16 knows indexes that only summarize.
inline List* insert_index_tuples(ResultRelInfo* table, TupleTableSlot* tuple, EState* state,
                                 bool only_summarizing) {
#if PG_VERSION_NUM >= 160000
    return ExecInsertIndexTuples(table, tuple, state, false, false, nullptr, NIL, only_summarizing);
#else
    (void)only_summarizing;
    return ExecInsertIndexTuples(table, tuple, state, false, false, nullptr, NIL);
#endif
}

/// Returns the wait event of this name; before PostgreSQL 17 the wait event that all extensions share.
inline uint32 wait_event(const char* name) {
#if PG_VERSION_NUM >= 170000
    return WaitEventExtensionNew(name);
#else
    (void)name;
    return PG_WAIT_EXTENSION;
#endif
}

/// Whether a database is the rest of an interrupted DROP DATABASE.
inline bool is_invalid(Form_pg_database database) {
    return database->datconnlimit ==
           -2;  // DATCONNLIMIT_INVALID_DB, which the first minor releases of 15 lack
}

/// Tries to lock an object of this database for the transaction, without waiting. Later minor releases have
/// ConditionalLockDatabaseObject for this.
inline bool try_lock_object(Oid catalog, Oid object, LOCKMODE mode) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, catalog, object, 0);
    if (LockAcquire(&tag, mode, false, true) == LOCKACQUIRE_NOT_AVAIL) return false;
    AcceptInvalidationMessages();
    return true;
}

/// Whether a session could connect to a database now, that is, no session drops, renames or copies it. Inside
/// a transaction.
inline bool may_connect(Oid database) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
    if (LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL) return false;
    LockRelease(&tag, RowExclusiveLock, false);
    return true;
}

/// The index of a table's primary key, or none.
inline Oid primary_key_of(Relation table) {
#if PG_VERSION_NUM >= 180000
    return RelationGetPrimaryKeyIndex(table, false);
#else
    return RelationGetPrimaryKeyIndex(table);
#endif
}

/// This process's place in the array of all processes.
inline int proc_number() {
#if PG_VERSION_NUM >= 170000
    return MyProcNumber;
#else
    return MyProc->pgprocno;
#endif
}

/// A walker of expression trees: returns true to stop.
using Walker = bool (*)(Node* node, void* context);

/// Walks a query, or the nodes below a node; before 16, walkers had no prototype.
inline bool walk_query(Query* query, Walker walker, void* context, int flags) {
#if PG_VERSION_NUM >= 160000
    return query_tree_walker(query, walker, context, flags);
#else
    return query_tree_walker(query, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(walker)),
                             context, flags);
#endif
}
inline bool walk_expression(Node* node, Walker walker, void* context) {
#if PG_VERSION_NUM >= 160000
    return expression_tree_walker(node, walker, context);
#else
    return expression_tree_walker(node, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(walker)),
                                  context);
#endif
}

/// Whether a role may use a schema; 16 has one function for the rights on all kinds of objects.
inline bool may_use_schema(Oid schema, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
    return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

}  // namespace mau::pg::compat
