#include "source/rights.hpp"

#include "source/reader.hpp"

namespace mau::source {

namespace {

/// A relation, a function or a domain that the queries reach.
struct Object {
    const char* name;
    Oid relation;  // InvalidOid for a function and a domain
    Oid owner;
    bool is_named;   // in a query, as itself or as a partition or child, not only inside another relation
    bool runs_code;  // with the rights of the role that reads
};

/// All objects that queries reach; in backend memory.
struct Walk {
    List* objects;
    bool inside;  // a view's definition or a relation's own expressions, not the query itself
};

bool walk_node(Node* node, void* context);

void add(Walk* walk, const Object& object) {
    auto* const copy = static_cast<Object*>(palloc(sizeof(Object)));
    *copy = object;
    walk->objects = lappend(walk->objects, copy);
}

/// Walks expressions that a catalog stores for a relation.
void walk_stored(Walk* walk, Oid catalog, Oid index, AttrNumber relation_column, Oid relation,
                 std::initializer_list<AttrNumber> columns) {
    ScanKeyData key;
    ScanKeyInit(&key, relation_column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    Relation const table = table_open(catalog, AccessShareLock);
    SysScanDesc const scan = systable_beginscan(table, index, true, nullptr, 1, &key);
    for (HeapTuple row = systable_getnext(scan); HeapTupleIsValid(row); row = systable_getnext(scan)) {
        for (const AttrNumber column : columns) {
            bool null = false;
            Datum const stored = heap_getattr(row, column, RelationGetDescr(table), &null);
            if (!null) walk_node(static_cast<Node*>(stringToNode(TextDatumGetCString(stored))), walk);
        }
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
}

/// Walks the expressions of a relation that the planner may evaluate, as the role that reads: those of
/// indexes, extended statistics, CHECK constraints and the partition key. The relation cache would evaluate
/// them, too, so the catalogs are read.
void walk_expressions(Walk* walk, Oid relation) {
    const bool outer = walk->inside;
    walk->inside = true;
    walk_stored(walk, IndexRelationId, IndexIndrelidIndexId, Anum_pg_index_indrelid, relation,
                {Anum_pg_index_indexprs, Anum_pg_index_indpred});
    walk_stored(walk, StatisticExtRelationId, StatisticExtRelidIndexId, Anum_pg_statistic_ext_stxrelid,
                relation, {Anum_pg_statistic_ext_stxexprs});
    walk_stored(walk, ConstraintRelationId, ConstraintRelidTypidNameIndexId, Anum_pg_constraint_conrelid,
                relation, {Anum_pg_constraint_conbin});
    walk_stored(walk, PartitionedRelationId, PartitionedRelidIndexId, Anum_pg_partitioned_table_partrelid,
                relation, {Anum_pg_partitioned_table_partexprs});
    walk->inside = outer;
}

void add_relation(Walk* walk, Oid relation, bool is_child) {
    ListCell* cell;
    foreach (cell, walk->objects) {
        auto* const known = static_cast<Object*>(lfirst(cell));
        if (known->relation == relation && known->is_named == !walk->inside) return;
    }
    HeapTuple const tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return;
    const FormData_pg_class row = *reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    ReleaseSysCache(tuple);
    if (row.relnamespace == PG_CATALOG_NAMESPACE) return;
    const bool is_view = row.relkind == RELKIND_VIEW;
    add(walk, {pstrdup(NameStr(row.relname)), relation, row.relowner, !walk->inside,
               is_view || row.relkind == RELKIND_FOREIGN_TABLE});
    walk_expressions(walk, relation);
    if (row.relhassubclass && !is_child) {
        foreach (cell, find_all_inheritors(relation, AccessShareLock, nullptr))
            if (lfirst_oid(cell) != relation) add_relation(walk, lfirst_oid(cell), true);
    }
    if (is_view) {
        check_stack_depth();
        Relation const view = relation_open(relation, AccessShareLock);
        auto* const query = static_cast<Query*>(copyObjectImpl(get_view_query(view)));
        relation_close(view, NoLock);
        const bool outer = walk->inside;
        walk->inside = true;
        walk_node(reinterpret_cast<Node*>(query), walk);
        walk->inside = outer;
    }
}

bool add_function(Oid function, void* context) {
    auto* const walk = static_cast<Walk*>(context);
    HeapTuple const tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return false;
    auto* const row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    // A superuser's functions, such as an extension's, do not show who owns the tables.
    if (row->pronamespace != PG_CATALOG_NAMESPACE)
        add(walk, {pstrdup(NameStr(row->proname)), InvalidOid, row->proowner,
                   !walk->inside && !superuser_arg(row->proowner), !row->prosecdef});
    ReleaseSysCache(tuple);
    return false;
}

void add_domain(Walk* walk, Oid type) {
    HeapTuple const tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    if (!HeapTupleIsValid(tuple)) return;
    auto* const row = reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple));
    if (row->typnamespace != PG_CATALOG_NAMESPACE)
        add(walk, {pstrdup(NameStr(row->typname)), InvalidOid, row->typowner, false, true});
    ReleaseSysCache(tuple);
}

bool walk_node(Node* node, void* context) {
    if (node == nullptr) return false;
    auto* const walk = static_cast<Walk*>(context);
    check_functions_in_node(node, add_function, context);
    if (IsA(node, CoerceToDomain)) add_domain(walk, reinterpret_cast<CoerceToDomain*>(node)->resulttype);
    if (IsA(node, RangeTblEntry)) {
        auto* const entry = reinterpret_cast<RangeTblEntry*>(node);
        if (entry->rtekind == RTE_RELATION) add_relation(walk, entry->relid, false);
        return false;
    }
    if (IsA(node, Query))
        return pg::compat::walk_query(reinterpret_cast<Query*>(node), walk_node, context,
                                      QTW_EXAMINE_RTES_BEFORE);
    return pg::compat::walk_expression(node, walk_node, context);
}

/// Adds the objects that a query reaches; parses it and runs nothing of it.
void walk_query(Walk* walk, const ContractQuery& query) {
    pg::guard([walk, text = query.text.c_str(), type = query.takes_texts ? Oid{TEXTARRAYOID} : Oid{INT8OID}] {
        List* const statements = raw_parser(text, RAW_PARSE_DEFAULT);
        Oid const types[] = {type, type, type};
        walk_node(reinterpret_cast<Node*>(parse_analyze_fixedparams(
                      static_cast<RawStmt*>(linitial(statements)), text, types, 3, nullptr)),
                  walk);
    });
}

/// Returns the one owner of the objects that the queries name, or pg_read_all_data where superusers own them.
Oid owner_of(const List* objects) {
    const Object* first = nullptr;
    ListCell* cell;
    foreach (cell, objects) {
        auto* const object = static_cast<Object*>(lfirst(cell));
        if (!object->is_named) continue;
        if (!first) first = object;
        if (object->owner == first->owner || (superuser_arg(object->owner) && superuser_arg(first->owner)))
            continue;
        ereport(
            ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
             errmsg("the homeserver's tables belong to several roles: \"%s\" to \"%s\", \"%s\" to \"%s\"",
                    first->name, GetUserNameFromId(first->owner, false), object->name,
                    GetUserNameFromId(object->owner, false)),
             errhint("Give them one owner with ALTER ... OWNER TO; or call mau.detach(), and mau.attach() "
                     "as a role that is no superuser and may read them all.")));
    }
    return first && !superuser_arg(first->owner) ? first->owner : ROLE_PG_READ_ALL_DATA;
}

/// Makes sure that no code runs with rights of the role that the owner of the code lacks. Code that the role
/// may not read is checked, too: its owner may grant the right while mau reads.
void check_code(const List* objects, Oid role) {
    ListCell* cell;
    foreach (cell, objects) {
        auto* const object = static_cast<Object*>(lfirst(cell));
        if (!object->runs_code || has_privs_of_role(object->owner, role)) continue;
        const char* const owner = GetUserNameFromId(object->owner, false);
        ereport(
            ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
             errmsg("\"%s\" would run code of role \"%s\" with the rights of role \"%s\"", object->name,
                    owner, GetUserNameFromId(role, false)),
             errhint("Call mau.attach() as role \"%s\", or as a superuser where role \"%s\" owns all that "
                     "is read; or let it belong to a superuser.",
                     owner, owner)));
    }
}

}  // namespace

Oid reading_role(const std::string& attached_by, const std::vector<ContractQuery>& queries) {
    Walk walk{};
    for (const ContractQuery& query : queries) {
        if (query.required)
            walk_query(&walk, query);
        else
            // A query with errors is not run either.
            pg::attempt([&] { walk_query(&walk, query); }, is_lasting);
    }
    return pg::guard([&walk, name = attached_by.c_str()]() -> Oid {
        Oid role = GetUserId();
        if (superuser()) {
            role = get_role_oid(name, true);
            if (!OidIsValid(role))
                ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                                errmsg("role \"%s\", who attached, does not exist", name),
                                errhint("Call mau.detach() and attach again; the numbers are kept.")));
            if (superuser_arg(role)) role = owner_of(walk.objects);
        }
        check_code(walk.objects, role);
        return role;
    });
}

}  // namespace mau::source
