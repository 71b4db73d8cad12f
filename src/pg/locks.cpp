#include "pg/locks.hpp"

namespace mau::pg {

namespace {

LOCKTAG tag_of(LockSpace space, std::uint64_t key) {
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(key >> 32), static_cast<uint32>(key),
                         static_cast<uint16>(space));
    return tag;
}

}  // namespace

bool try_lock(LockSpace space, std::uint64_t key) {
    return guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
    });
}

bool try_new_lock(LockSpace space, std::uint64_t key) {
    return guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        LockAcquireResult const result = LockAcquire(&tag, ExclusiveLock, false, true);
        if (result != LOCKACQUIRE_OK && result != LOCKACQUIRE_NOT_AVAIL)
            LockRelease(&tag, ExclusiveLock, false);
        return result == LOCKACQUIRE_OK;
    });
}

bool try_session_lock(LockSpace space, std::uint64_t key) {
    return guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
    });
}

void take_lock(LockSpace space, std::uint64_t key) {
    int const timeout = LockTimeout;
    LockTimeout = 0;
    try {
        guard([&] {
            LOCKTAG const tag = tag_of(space, key);
            LockAcquire(&tag, ExclusiveLock, false, false);
        });
    } catch (...) {
        LockTimeout = timeout;
        throw;
    }
    LockTimeout = timeout;
}

void release_lock(LockSpace space, std::uint64_t key) {
    guard([&] {
        LOCKTAG const tag = tag_of(space, key);
        LockRelease(&tag, ExclusiveLock, false);
    });
}

bool try_table_lock(Oid relation, LOCKMODE mode) {
    return OidIsValid(relation) && guard([&] { return ConditionalLockRelationOid(relation, mode); });
}

bool try_lock_with_indexes(Oid table, LOCKMODE mode) {
    return guard([&] {
        if (!ConditionalLockRelationOid(table, mode)) return false;
        Relation const relation = try_relation_open(table, NoLock);
        if (!relation) return false;
        List* const indexes = RelationGetIndexList(relation);
        table_close(relation, NoLock);
        ListCell* cell;
        foreach (cell, indexes)
            if (!ConditionalLockRelationOid(lfirst_oid(cell), mode)) return false;
        return true;
    });
}

bool try_own_table_lock(const char* name, LOCKMODE mode) {
    const Oid table = guard([&] {
        Oid const schema = get_namespace_oid("mau", true);
        return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
    });
    return OidIsValid(table) && try_lock_with_indexes(table, mode);
}

bool try_notify_lock() {
    return guard([] {
        LOCKTAG tag;
        SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, InvalidOid, 0);
        return LockAcquire(&tag, AccessExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
    });
}

}  // namespace mau::pg
