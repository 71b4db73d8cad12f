// Locks that are tried, and statements that must not wait for another transaction.
#pragma once

#include <algorithm>

#include "pg/boundary.hpp"

namespace mau::pg {

/// Advisory locks with a fourth field that SQL never uses, so that they cannot collide with an application's.
enum class LockSpace : std::uint16_t { user = 0x6D61, seats = 0x6D62, task = 0x6D63 };

/// Tries to take the lock `key` of `space` in this database, without waiting.
bool try_lock(LockSpace space, std::uint64_t key);
/// Likewise, but fails where this transaction has it already.
bool try_new_lock(LockSpace space, std::uint64_t key);
/// Tries to take it for the session, beyond the transaction.
bool try_session_lock(LockSpace space, std::uint64_t key);
/// Takes the lock, waiting for others; for locks that are held for the length of a statement only. The
/// caller's lock_timeout does not apply.
void take_lock(LockSpace space, std::uint64_t key);
/// Releases it before the end of the transaction.
void release_lock(LockSpace space, std::uint64_t key);

/// Tries to get ROW EXCLUSIVE (or ACCESS SHARE) on a table, an index or a sequence without waiting for an
/// ALTER or TRUNCATE in flight. False also for none (InvalidOid).
bool try_table_lock(Oid relation, LOCKMODE mode);

/// Tries to get the locks of a statement that reads a table (ACCESS SHARE) or writes to it (ROW EXCLUSIVE),
/// on it and on its indexes, without waiting for an ALTER, TRUNCATE or REINDEX in flight. False also for a
/// table that was dropped.
bool try_lock_with_indexes(Oid table, LOCKMODE mode);
inline bool try_read_lock(Oid table) {
    return try_lock_with_indexes(table, AccessShareLock);
}

/// Tries to get a lock on a table of mau's, by its name; false where there is none.
bool try_own_table_lock(const char* name, LOCKMODE mode);

/// Tries to get the lock that a transaction with a NOTIFY holds while it commits, for all databases.
bool try_notify_lock();

/// While one exists, a statement that waits for a lock longer than this fails with 55P03. The caller rolls it
/// back (`attempt`). A shorter lock_timeout of the caller's stays in effect.
class LimitedWaiting {
  public:
    explicit LimitedWaiting(int milliseconds) : outer_(LockTimeout) {
        LockTimeout = outer_ > 0 ? std::min(outer_, milliseconds) : milliseconds;
    }
    ~LimitedWaiting() { LockTimeout = outer_; }
    LimitedWaiting(const LimitedWaiting&) = delete;
    LimitedWaiting& operator=(const LimitedWaiting&) = delete;

  private:
    const int outer_;  // the caller's lock_timeout
};

/// Waits for a millisecond, the shortest lock_timeout that PostgreSQL has.
class NoWaiting : LimitedWaiting {
  public:
    NoWaiting() : LimitedWaiting(1) {}
};

/// Whether an error comes of another session's work on our tables: of concurrency, or because ON CONFLICT
/// finds no valid index (42P10) while one is dropped concurrently.
inline bool is_interference(const Trouble& trouble) {
    return is_concurrency(trouble) || trouble.state == "42P10";
}

/// Whether a caller's own call is deferred after an error, instead of failing: interference, or a trigger
/// that keeps rows from being written.
inline bool is_deferrable(const Trouble& trouble) {
    return is_interference(trouble) || trouble.state == sqlstate::trigger_protocol_violated;
}

}  // namespace mau::pg
