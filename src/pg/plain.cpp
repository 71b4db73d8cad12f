#include "pg/plain.hpp"

#include <algorithm>

namespace mau::pg {

namespace {

constexpr int kMaxKnown = 32;
Oid known[kMaxKnown];  // tables that were found to be plain
int known_count = 0;
std::uint64_t invalidations = 0;

void on_relcache_invalidation(Datum, Oid relation) {
    ++invalidations;
    for (int i = known_count; i-- > 0;)
        if (relation == InvalidOid || relation == known[i]) known[i] = known[--known_count];
}

bool is_known(Oid table) {
    return std::find(known, known + known_count, table) != known + known_count;
}

void remember(Oid table) {
    if (known_count == kMaxKnown) known_count = 0;
    known[known_count++] = table;
}

const char* name_of(Relation relation) {
    return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
                                      RelationGetRelationName(relation));
}

/// Whether Citus keeps the rows of a table elsewhere: in shards, or in the shard of a reference table. Its
/// catalog is read without waiting for locks of ours, as planning a statement would at a locked index.
bool is_distributed(Oid table) {
    Oid const catalog = get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE);
    if (!OidIsValid(catalog)) return false;
    constexpr AttrNumber kRelation = 1;  // logicalrelid, in every version of Citus
    ScanKeyData key;
    ScanKeyInit(&key, kRelation, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
    Relation const partitions = table_open(catalog, AccessShareLock);
    SysScanDesc const scan = systable_beginscan(partitions, InvalidOid, false, nullptr, 1, &key);
    const bool found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    table_close(partitions, AccessShareLock);
    return found;
}

const char* kind_of(Relation relation) {
    switch (relation->rd_rel->relkind) {
        case RELKIND_PARTITIONED_TABLE:
            return "is a partitioned table";
        case RELKIND_FOREIGN_TABLE:
            return "is a foreign table";
        default:
            return "is not a table";
    }
}

// Citus does not undistribute a table of an extension. SET ACCESS METHOD heap may leave it without a TOAST
// table.
constexpr auto* kBuildAgain =
    "Dump mau with pg_dump --extension=mau, run DROP SCHEMA mau CASCADE, and load the dump.";

NotPlain look(Relation relation) {
    if (relation->rd_rel->relkind != RELKIND_RELATION)
        return {kind_of(relation), "Put an ordinary table in its place, as in the extension's script."};
    if (relation->rd_rel->relispartition)
        return {"is a partition", "Detach it: ALTER TABLE … DETACH PARTITION …;"};
    if (find_inheritance_children(RelationGetRelid(relation), NoLock) != NIL)
        return {"has child tables", "Detach each child: ALTER TABLE … NO INHERIT …;"};
    if (relation->rd_tableam != GetHeapamTableAmRoutine())
        return {psprintf("has the access method %s", get_am_name(relation->rd_rel->relam)), kBuildAgain};
    if (is_distributed(RelationGetRelid(relation))) return {"is a table of Citus", kBuildAgain};
    return {};
}

}  // namespace

void init_plain_tables() {
    guard([] { CacheRegisterRelcacheCallback(on_relcache_invalidation, 0); });
}

NotPlain why_not_plain(Relation relation) {
    if (is_known(RelationGetRelid(relation))) return {};
    const std::uint64_t before = invalidations;
    const NotPlain found = look(relation);
    if (!found.reason && invalidations == before) remember(RelationGetRelid(relation));
    return found;
}

Relation open_plain(Oid table, LOCKMODE mode) {
    Relation const relation = table_open(table, mode);
    const NotPlain found = why_not_plain(relation);
    if (found.reason)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("mau's table %s is not an ordinary local table", name_of(relation)),
                        errdetail("It %s.", found.reason), errhint("%s", found.remedy)));
    return relation;
}

}  // namespace mau::pg
