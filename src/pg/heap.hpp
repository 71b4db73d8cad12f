// Rows of heaps, found by key and changed in place, for work that SQL cannot do without waiting: look-ups
// that see rows of transactions in progress, and writes that skip a row which another transaction has.
#pragma once

#include "pg/table.hpp"

namespace mau::pg {

/// mau's own objects on a table: its trigger functions, and the number of CHECK constraints, which its direct
/// writes cannot violate. `updated`: the columns that direct updates set, where a role may have the right to
/// some columns only.
struct OwnObjects {
    Oid triggers[2] = {InvalidOid, InvalidOid};
    int checks = 0;
    int updated[2] = {-1, -1};
};

/// Whether this session may write rows of a plain table without a statement: it has the right to, and the
/// table has no triggers, rules, policies or constraints of others. Inside a guard only, with a lock on the
/// table.
bool writable_directly(Relation table, const OwnObjects& own, AclMode right);

/// A row found by its text key. Values are copies in the memory context of the call; the key itself is left
/// out.
struct Found {
    static constexpr int kMaxColumns = 16;
    bool exists = false;  // a version is there that is committed, or ours
    bool in_flight =
        false;  // another transaction has inserted, changed, deleted or locked it and is not done
    Datum values[kMaxColumns];
    bool nulls[kMaxColumns];

    bool is_null(int column) const { return nulls[column]; }
    int int4(int column) const { return DatumGetInt32(values[column]); }
    std::int64_t integer(int column) const { return DatumGetInt64(values[column]); }
    bool boolean(int column) const { return DatumGetBool(values[column]); }
    std::string_view text(int column) const {
        return nulls[column] ? std::string_view() : view_of(DatumGetPointer(values[column]));
    }
};

/// Deletes the row in a slot, without a statement and without waiting; false where another transaction has
/// it. Inside a guard only.
bool delete_row(Relation table, TupleTableSlot* slot, CommandId command, Snapshot snapshot);

/// A new value for a column of a row.
struct Change {
    int column;
    Datum value;
};

/// A table with a unique index on one text column under COLLATE "C", opened for a few look-ups. Between
/// `open` and `close` no error of ours may be thrown past it except one that ends the statement.
class KeyedTable {
  public:
    /// Opens both; the caller must have the right to SELECT on the table (else 42501), and it must be plain
    /// (else 55000). If the index was replaced, it is looked up by its name.
    void open(Oid table, Oid index, const char* name);
    /// The current version of the row with this text key: committed, or changed by this transaction.
    Found find(Datum key);

    /// Whether `update` can be called; needs ROW EXCLUSIVE on the table.
    bool allows_updates(const OwnObjects& own);
    /// Updates columns of the row that `find` found last, without waiting; returns false if another
    /// transaction changed it first. The caller ends the command (`end_command`) before the row is read or
    /// updated again.
    bool update(const Change* changes, int count);
    void close();

  private:
    /// The room that a heap page should have: for a version or two of a row.
    static constexpr std::size_t kRoom = 400;

    bool next_version();
    bool lock_row(ItemPointer tid);

    Relation table_ = nullptr;
    Relation index_ = nullptr;
    Buffer page_ = InvalidBuffer;  // of the heap, the one looked at last
    IndexScanDesc scan_ = nullptr;
    SnapshotData dirty_;
    TupleTableSlot* slot_ = nullptr;   // the row found last, if it may be updated
    TupleTableSlot* fresh_ = nullptr;  // its new version
};

}  // namespace mau::pg
