// Direct access to tables, for work that SQL cannot do without waiting: look-ups that see rows of
// transactions in progress, and writes in place.
#pragma once

#include "pg/boundary.hpp"

namespace mau::pg {

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

/// A text of a row, as long as the slot holds the row; inside a guard only.
inline std::string_view text_of(TupleTableSlot* slot, int column) {
    return view_of(DatumGetTextPP(slot->tts_values[column]));
}

/// mau's own objects on a table: its trigger functions, and the number of CHECK constraints, which its direct
/// writes cannot violate. `updated`: the columns that direct updates set, where a role may have the right to
/// some columns only.
struct OwnObjects {
    Oid triggers[2] = {InvalidOid, InvalidOid};
    int checks = 0;
    int updated[2] = {-1, -1};
};

/// Makes sure that the current role has rights on a table of ours and that row security hides none of its
/// rows from it (42501). Inside a guard only.
void check_rights(Oid table, AclMode rights);

/// Whether this session may write rows of a table without a statement: it has the right to, and the table has
/// no triggers, rules, policies, constraints or children of others. Inside a guard only, with a lock on the
/// table.
bool writable_directly(Relation table, const OwnObjects& own, AclMode right);

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
    /// Opens both; the caller must have the right to SELECT on the table (else 42501). If the index was
    /// replaced, it is looked up by its name.
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
    bool is_heap_ = false;
    Buffer page_ = InvalidBuffer;  // of the heap, the one looked at last
    IndexScanDesc scan_ = nullptr;
    SnapshotData dirty_;
    TupleTableSlot* slot_ = nullptr;   // the row found last, if it may be updated
    TupleTableSlot* fresh_ = nullptr;  // its new version
};

/// Rows appended to a table that `writable_directly` is true of. All of it inside a guard only.
class Appender {
  public:
    void open(Relation table) { table_ = table; }
    /// The values of the next row, to be filled in.
    Datum* row();
    /// Writes the row that was filled in.
    void flush();

  private:
    static constexpr int kRoom = 256;
    Relation table_ = nullptr;
    int count_ = 0;
    int slots_made_ = 0;
    TupleTableSlot* slots_[kRoom];

  public:
    void close();
};

/// Ends the command, so that later reads see the direct writes.
void end_command();

/// A table and an index of it, to be walked. All of it inside a guard only.
class IndexedTable {
  public:
    /// Opens both; the caller must have the right to SELECT on the table (else 42501).
    void open(Oid table, const char* name);
    /// Likewise, with an index that `usable_index` has found.
    void open(Oid table, Oid index, const char* name);
    void close();

  protected:
    Relation table_, index_;
    TupleTableSlot* slot_;
};

/// A table read in the order of a btree, by keys on its first columns. All of it inside a guard only.
class IndexWalk : public IndexedTable {
  public:
    void begin(Snapshot snapshot, ScanKey keys, int count, ScanDirection direction = ForwardScanDirection);
    /// The next row, or null at the end; good until the next call.
    TupleTableSlot* next();
    void end();
    Relation table() const { return table_; }

  private:
    IndexScanDesc scan_;
    ScanDirection direction_;
};

/// A btree read in its order for the values in its entries, by keys on its first columns; it reads the table
/// only where a page has rows that are not visible to all. All of it inside a guard only.
class EntryWalk : public IndexedTable {
  public:
    void begin(Snapshot snapshot, ScanKey keys, int count);
    /// The columns of the next entry, or null at the end; good until the next call.
    const Datum* next();
    void close();

  private:
    IndexScanDesc scan_ = nullptr;
    Buffer visibility_ = InvalidBuffer;
    Datum values_[INDEX_MAX_KEYS];
    bool nulls_[INDEX_MAX_KEYS];
};

/// An index of a table by its name; InvalidOid where no usable index exists: dropped, not built yet, or not
/// unique where it has to be.
Oid usable_index(const char* name, Oid table, bool unique = false);

/// A 64-bit hash of an id, the same in every session of a server.
inline std::uint64_t hash(std::string_view id) {
    return hash_bytes_extended(reinterpret_cast<const unsigned char*>(id.data()), static_cast<int>(id.size()),
                               0);
}

}  // namespace mau::pg
