// Tables and their indexes without SQL: opened, and walked in the order of an index. Rows of heaps that are
// found by key and changed in place are in heap.hpp.
#pragma once

#include "pg/boundary.hpp"

namespace mau::pg {

/// A text of a row, as long as the slot holds the row; inside a guard only.
inline std::string_view text_of(TupleTableSlot* slot, int column) {
    return view_of(DatumGetTextPP(slot->tts_values[column]));
}

/// Makes sure that the current role has rights on a table of ours and that row security hides none of its
/// rows from it (42501). Inside a guard only.
void check_rights(Oid table, AclMode rights);

/// Opens an index of a locked table that was usable when it was looked up; if it was replaced, it is looked
/// up by its name (else 55000). Inside a guard only.
Relation open_index(Relation table, Oid index, const char* name);

/// Makes a step of a scan in the memory that the scan was begun in. An index may keep what it allocates at a
/// step until the scan ends, and the caller's memory may be reset before. Inside a guard only.
template <class Step>
auto step(IndexScanDesc scan, Step&& make) {
    MemoryContext const callers = MemoryContextSwitchTo(GetMemoryChunkContext(scan));
    const auto answer = make();
    MemoryContextSwitchTo(callers);
    return answer;
}
inline bool next_slot(IndexScanDesc scan, ScanDirection direction, TupleTableSlot* slot) {
    return step(scan, [&] { return index_getnext_slot(scan, direction, slot); });
}
inline ItemPointer next_tid(IndexScanDesc scan) {
    return step(scan, [&] { return index_getnext_tid(scan, ForwardScanDirection); });
}

/// A table and an index of it, to be walked. All of it inside a guard only.
class IndexedTable {
  public:
    /// Opens both; the caller must have the right to SELECT on the table (else 42501), and it must be plain
    /// (else 55000).
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
