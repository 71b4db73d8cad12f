#include "source/rights.hpp"

namespace mau::source {

namespace {

/// A relation, a function or a domain that the queries reach.
struct Object {
    const char* name;
    Oid relation;  // InvalidOid for a function and a domain
    Oid owner;
    Oid through;     // the relation named in a query by which it is reached; InvalidOid: none
    bool is_named;   // in a query, as itself or as a partition or child, not only in a view's definition
    bool runs_code;  // with the rights of the role that reads
};

/// All objects that queries reach; in backend memory.
struct Walk {
    List* objects;
    Oid view;  // the view named in a query whose definition is looked at
};

bool walk_node(Node* node, void* context);

void add(Walk* walk, const Object& object) {
    auto* const copy = static_cast<Object*>(palloc(sizeof(Object)));
    *copy = object;
    walk->objects = lappend(walk->objects, copy);
}

void add_relation(Walk* walk, Oid relation, Oid parent) {
    Oid const through = OidIsValid(walk->view) ? walk->view : OidIsValid(parent) ? parent : relation;
    ListCell* cell;
    foreach (cell, walk->objects) {
        auto* const known = static_cast<Object*>(lfirst(cell));
        if (known->relation == relation && known->through == through) return;
    }
    HeapTuple const tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return;
    const FormData_pg_class row = *reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    ReleaseSysCache(tuple);
    if (row.relnamespace == PG_CATALOG_NAMESPACE) return;
    const bool is_view = row.relkind == RELKIND_VIEW;
    add(walk, {pstrdup(NameStr(row.relname)), relation, row.relowner, through, !OidIsValid(walk->view),
               is_view || row.relkind == RELKIND_FOREIGN_TABLE});
    if (row.relhassubclass && !OidIsValid(parent)) {
        foreach (cell, find_all_inheritors(relation, AccessShareLock, nullptr))
            if (lfirst_oid(cell) != relation) add_relation(walk, lfirst_oid(cell), relation);
    }
    if (is_view) {
        check_stack_depth();
        Relation const view = relation_open(relation, AccessShareLock);
        auto* const query = static_cast<Query*>(copyObjectImpl(get_view_query(view)));
        relation_close(view, NoLock);
        Oid const outer = walk->view;
        walk->view = through;
        walk_node(reinterpret_cast<Node*>(query), walk);
        walk->view = outer;
    }
}

bool add_function(Oid function, void* context) {
    auto* const walk = static_cast<Walk*>(context);
    HeapTuple const tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return false;
    auto* const row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    // A superuser's functions, such as an extension's, do not show who owns the tables.
    if (row->pronamespace != PG_CATALOG_NAMESPACE)
        add(walk, {pstrdup(NameStr(row->proname)), InvalidOid, row->proowner, walk->view,
                   !OidIsValid(walk->view) && !superuser_arg(row->proowner), !row->prosecdef});
    ReleaseSysCache(tuple);
    return false;
}

void add_domain(Walk* walk, Oid type) {
    HeapTuple const tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    if (!HeapTupleIsValid(tuple)) return;
    auto* const row = reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple));
    if (row->typnamespace != PG_CATALOG_NAMESPACE)
        add(walk, {pstrdup(NameStr(row->typname)), InvalidOid, row->typowner, walk->view, false, true});
    ReleaseSysCache(tuple);
}

bool walk_node(Node* node, void* context) {
    if (node == nullptr) return false;
    auto* const walk = static_cast<Walk*>(context);
    check_functions_in_node(node, add_function, context);
    if (IsA(node, CoerceToDomain)) add_domain(walk, reinterpret_cast<CoerceToDomain*>(node)->resulttype);
    if (IsA(node, RangeTblEntry)) {
        auto* const entry = reinterpret_cast<RangeTblEntry*>(node);
        if (entry->rtekind == RTE_RELATION) add_relation(walk, entry->relid, InvalidOid);
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

/// Whether the role may read anything of a relation.
bool may_read(Oid relation, Oid role) {
    return pg_class_aclcheck(relation, role, ACL_SELECT) == ACLCHECK_OK ||
           pg_attribute_aclcheck_all(relation, role, ACL_SELECT, ACLMASK_ANY) == ACLCHECK_OK;
}

/// Makes sure that no code runs with rights of the role that the owner of the code lacks.
void check_code(const List* objects, Oid role) {
    ListCell* cell;
    foreach (cell, objects) {
        auto* const object = static_cast<Object*>(lfirst(cell));
        if (!object->runs_code || has_privs_of_role(object->owner, role)) continue;
        // Skips what the role may not read; reading it raises the error.
        if (OidIsValid(object->through) && !may_read(object->through, role)) continue;
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
            pg::attempt([&] { walk_query(&walk, query); });  // a query with errors is not run either
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
