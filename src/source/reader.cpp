#include "source/reader.hpp"

namespace mau::source {

ReadAs::ReadAs(Oid role) {
    pg::guard([&] {
        GetUserIdAndSecContext(&saved_role_, &saved_context_);
        SetUserIdAndSecContext(role,
                               saved_context_ | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    });
}

void ReadAs::done() {
    pg::guard([&] { SetUserIdAndSecContext(saved_role_, saved_context_); });
}

Oid reading_role(const std::string& attached_by, Oid table) {
    return pg::guard([&, name = attached_by.c_str()]() -> Oid {
        if (!superuser()) return GetUserId();
        Oid const role = get_role_oid(name, true);
        if (!OidIsValid(role))
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\", who attached, does not exist", name),
                            errhint("Call mau.detach() and attach again; the numbers are kept.")));
        if (!superuser_arg(role)) return role;
        HeapTuple const tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
        if (!HeapTupleIsValid(tuple)) return role;
        Oid const owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
        ReleaseSysCache(tuple);
        return owner;
    });
}

std::optional<std::vector<Blocks>> changed_blocks(Oid table, std::uint32_t from, bool everything) {
    constexpr std::uint32_t kNear = 32;  // reading this many pages costs less than another statement
    std::vector<Blocks> runs;
    struct Seen {
        bool plain;
        std::uint32_t count;
        Blocks* runs;
    };
    const Seen seen = pg::guard([&]() -> Seen {
        Relation const relation = relation_open(table, AccessShareLock);
        Seen result{relation->rd_rel->relkind == RELKIND_RELATION &&
                        relation->rd_rel->relam == HEAP_TABLE_AM_OID,
                    0, nullptr};
        if (result.plain) {
            BlockNumber const end = RelationGetNumberOfBlocks(relation);
            std::uint32_t room = 64;
            result.runs = static_cast<Blocks*>(palloc(sizeof(Blocks) * room));
            Buffer map = InvalidBuffer;
            for (BlockNumber block = from; block < end; ++block) {
                if (everything) {
                    result.runs[0] = {block, end};
                    result.count = 1;
                    break;
                }
                if (VM_ALL_VISIBLE(relation, block, &map)) continue;
                if (result.count > 0 && block - result.runs[result.count - 1].end < kNear) {
                    result.runs[result.count - 1].end = block + 1;
                    continue;
                }
                if (result.count == room) {
                    room *= 2;
                    result.runs = static_cast<Blocks*>(repalloc(result.runs, sizeof(Blocks) * room));
                }
                result.runs[result.count++] = {block, block + 1};
            }
            if (BufferIsValid(map)) ReleaseBuffer(map);
        }
        relation_close(relation, AccessShareLock);
        return result;
    });
    if (!seen.plain) return std::nullopt;
    runs.assign(seen.runs, seen.runs + seen.count);
    return runs;
}

Fingerprint fingerprint(Oid table) {
    static pg::Statement query(
        "SELECT coalesce(pg_catalog.pg_relation_filenode($1)::pg_catalog.int8, 0),"
        " pg_catalog.pg_stat_get_vacuum_count($1) OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_autovacuum_count($1)",
        {OIDOID});
    const pg::Rows rows = query.read(static_cast<std::int64_t>(table));
    return {rows.at(0, 0).integer(), rows.at(0, 1).integer()};
}

}  // namespace mau::source
