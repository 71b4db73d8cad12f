// Reading a homeserver's tables: as the right role, and only the pages that changed.
#pragma once

#include "pg/locks.hpp"
#include "pg/spi.hpp"

namespace mau::source {

/// Waits for a tenth of a second. A migration that itself waits for mau is ended as a deadlock only after
/// deadlock_timeout, which is 1 s by default.
class BriefWaiting : pg::LimitedWaiting {
  public:
    BriefWaiting() : LimitedWaiting(100) {}
};

/// Whether an error would come again. One of a lock goes away when its holder ends.
inline bool is_lasting(const pg::Trouble& trouble) {
    return !pg::is_concurrency(trouble);
}

/// Switches to the role that reads the homeserver's tables, under SECURITY_RESTRICTED_OPERATION and with
/// row_security off; locks are waited for briefly; settings that functions behind those tables make end with
/// it. A time zone, where one is given, is that of the session meanwhile. After an error the end of the
/// (sub)transaction restores all.
class ReadAs {
  public:
    explicit ReadAs(Oid role, const std::optional<std::string>& time_zone = {});
    /// Switches back; call it before anything is written.
    void done();

  private:
    BriefWaiting waiting_;
    Oid saved_role_;
    int saved_context_;
    int settings_;
};

/// Takes ACCESS SHARE on all of the tables, or on none. It waits up to two seconds for a migration and holds
/// no lock meanwhile, so it cannot be part of a deadlock. Returns a table that could not be locked.
std::optional<Oid> share(const std::vector<Oid>& tables);

/// Whether the changed pages of a table show its new rows to the role: it is a plain, logged table, and the
/// role may read ctid. Otherwise all of it has to be read.
bool has_pages(Oid table, Oid role);

/// A run of a table's blocks: [first, end).
struct Blocks {
    std::uint32_t first, end;
};

/// The blocks of a table that has pages, whose pages changed after a location in the WAL (0 = all); runs less
/// than `near` apart are one.
std::vector<Blocks> changed_blocks(Oid table, std::int64_t after, std::uint32_t near = 32);

/// The number of the file of a table; a rewrite of the table changes it.
std::int64_t filenode_of(Oid table);

/// The identifier of the PostgreSQL server's data. Standbys and their promotion keep it; initdb, and so
/// pg_upgrade and a subscriber of logical replication, has a new one.
std::int64_t system_identifier();

// The changes that a reading has seen. Every change of a page writes WAL and leaves its location on the page,
// so the pages that changed after a location are found without a column that says so. A transaction that was
// under way at a reading may have changed pages before the reading's mark and become visible after it; so a
// mark is trusted only after a later reading at which all transactions of this database that could have been
// under way at the mark were over; README.md has the proof. All of this is true only on the server that took
// the mark: another server has another WAL, and its files may have the same numbers.

/// The moment of a reading: a location in the WAL, and the transactions in progress.
struct Mark {
    std::int64_t lsn;       // in the WAL, taken first
    std::int64_t next_xid;  // transactions from here on began to write later
    std::int64_t
        oldest_open;  // the oldest of the others before that which runs in this database, or next_xid
};

/// Takes a mark, then pushes a fresh snapshot for the reading.
Mark take_mark();

/// The position of the reading of a table.
struct TableState {
    std::int64_t filenode = 0;
    std::optional<std::int64_t> until;          // all changes up to here were seen; nothing: read it all
    std::optional<std::int64_t> pending_until;  // the next mark to be trusted,
    std::optional<std::int64_t> pending_xid;    // once all transactions before this one are over
};

/// The state after a reading of the changes since `known.until`.
TableState advance(const TableState& known, std::int64_t filenode, const Mark& mark);

}  // namespace mau::source
