// SQL from C++: statements that are prepared once per session, parameters and results as plain values.
//
// Everything here runs behind the guard. Results are views into SPI's memory and die with `with_spi`; copy
// values that must live longer. Statements that write take a fresh snapshot, also in REPEATABLE READ:
// decisions must be made on the rows that are committed now (the technique of PostgreSQL's own foreign keys).
#pragma once

#include "pg/boundary.hpp"

namespace mau::pg {

/// A statement parameter, or a value of a result: NULL, a scalar, or an array that borrows the caller's
/// memory.
class Param {
  public:
    Param() = default;
    Param(std::nullopt_t) {}
    Param(bool value) : kind_(Kind::scalar), scalar_(BoolGetDatum(value)) {}
    Param(int value) : kind_(Kind::scalar), scalar_(Int32GetDatum(value)) {}
    Param(std::int64_t value) : kind_(Kind::scalar), scalar_(Int64GetDatum(value)) {}
    Param(std::string_view value) : kind_(Kind::text), text_(value) {}
    Param(const std::string& value) : Param(std::string_view(value)) {}
    Param(const char* value) : Param(std::string_view(value)) {}
    template <class T>
    Param(const std::optional<T>& value) {
        if (value) *this = Param(*value);
    }
    Param(double value) : kind_(Kind::scalar), scalar_(Float8GetDatum(value)) {}
    /// Borrowed arrays; a text with a null data pointer is an SQL NULL.
    Param(const std::vector<std::string_view>& values)
        : kind_(Kind::texts), items_(values.data()), count_(values.size()) {}
    Param(const std::vector<std::int64_t>& values)
        : kind_(Kind::integers), items_(values.data()), count_(values.size()) {}
    Param(const std::vector<std::optional<std::int64_t>>& values)
        : kind_(Kind::optional_integers), items_(values.data()), count_(values.size()) {}
    Param(const std::vector<char>& values)  // char, because vector<bool> has no memory to borrow
        : kind_(Kind::booleans), items_(values.data()), count_(values.size()) {}

    static Param of(Datum value) {
        Param param;
        param.kind_ = Kind::scalar;
        param.scalar_ = value;
        return param;
    }
    /// A borrowed array of byte strings, as bytea[].
    static Param bytes(const std::vector<std::string_view>& values) {
        Param param(values);
        param.kind_ = Kind::bytes;
        return param;
    }

    bool is_null() const { return kind_ == Kind::null; }
    /// Builds the datum in the current memory context; a backend call, so inside a guard only.
    Datum datum() const;

  private:
    enum class Kind { null, scalar, text, texts, integers, optional_integers, booleans, bytes };
    Kind kind_ = Kind::null;
    Datum scalar_ = 0;
    std::string_view text_;
    const void* items_ = nullptr;
    std::size_t count_ = 0;
};

/// One value of a result row.
class Field {
  public:
    Field(Datum datum, bool null) : datum_(datum), null_(null) {}
    bool is_null() const { return null_; }
    std::int64_t integer() const { return DatumGetInt64(datum_); }
    int int4() const { return DatumGetInt32(datum_); }
    bool boolean() const { return DatumGetBool(datum_); }
    /// A view of a text; empty for NULL.
    std::string_view text() const { return null_ ? std::string_view() : view_of(DatumGetPointer(datum_)); }
    std::string string() const { return std::string(text()); }
    std::optional<std::string> optional_text() const {
        return null_ ? std::nullopt : std::optional<std::string>(text());
    }
    std::optional<std::int64_t> optional_integer() const {
        return null_ ? std::nullopt : std::optional<std::int64_t>(integer());
    }
    Datum datum() const { return datum_; }

  private:
    Datum datum_;
    bool null_;
};

/// A result: plain data in the memory that was current, values detoasted.
struct Rows {
    std::uint64_t count = 0;  // rows returned or, without a result set, rows touched
    int columns = 0;
    Datum* values = nullptr;
    bool* nulls = nullptr;

    /// The value; NULL where there is no such row.
    Field at(std::uint64_t row, int column) const {
        if (row >= count) return {0, true};
        const std::uint64_t i =
            row * static_cast<std::uint64_t>(columns) + static_cast<std::uint64_t>(column);
        return {values[i], nulls[i]};
    }
    bool empty() const { return count == 0; }
    /// Replaces a value by an integer or NULL.
    void set(std::uint64_t row, int column, std::optional<std::int64_t> value) const {
        const std::uint64_t i =
            row * static_cast<std::uint64_t>(columns) + static_cast<std::uint64_t>(column);
        values[i] = Int64GetDatum(value.value_or(0));
        nulls[i] = !value.has_value();
    }
};

/// A statement with fixed text, prepared at its first use in a session and kept. It runs with search_path =
/// pg_catalog, pg_temp: names of mau's schema are qualified, PostgreSQL's own are not.
class Statement {
  public:
    static constexpr int kMaxParams = 12;

    template <std::size_t N>
    Statement(const char* sql, const Oid (&types)[N]) : sql_(sql), count_(static_cast<int>(N)) {
        static_assert(N <= kMaxParams);
        for (std::size_t i = 0; i < N; ++i) types_[i] = types[i];
    }
    explicit Statement(const char* sql) : sql_(sql), count_(0) {}
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

    /// Runs a statement that writes. It sees all transactions that have committed by now.
    template <class... Args>
    Rows write(const Args&... args) {
        return run({Param(args)...}, Mode::write);
    }
    /// Reads with a new snapshot, in any isolation level: all transactions that have committed by now.
    template <class... Args>
    Rows read_latest(const Args&... args) {
        return run({Param(args)...}, Mode::read_latest);
    }
    /// Reads with the snapshot of the caller's statement. A REPEATABLE READ transaction that has written gets
    /// a newer one: that of its first read after its last write.
    template <class... Args>
    Rows read(const Args&... args) {
        return run({Param(args)...}, Mode::read);
    }

  private:
    enum class Mode { read, read_latest, write };
    Rows run(std::initializer_list<Param> params, Mode mode);
    Rows execute_plan(std::initializer_list<Param> params, Mode mode);

    const char* sql_;
    Oid types_[kMaxParams] = {};
    int count_;
    SPIPlanPtr plan_ = nullptr;
};

/// Runs a statement that returns how many rows of a table it has written, and how many it should have. Tries
/// again for rows that changed meanwhile. Returns the number of written rows; raises 39P01 if a trigger keeps
/// rows.
template <class... Args>
std::int64_t write_all(Statement& statement, Error (*error)(const std::string&), const char* table,
                       const Args&... args) {
    std::int64_t written = 0;
    for (int tries = 0; tries < 10; ++tries) {
        const Rows rows = statement.write(args...);
        written += rows.at(0, 0).integer();
        if (rows.at(0, 0).integer() >= rows.at(0, 1).integer()) return written;
    }
    throw error(table);
}
/// The same for rows that are deleted by a statement made of MAU_DELETE.
template <class... Args>
std::int64_t delete_all(Statement& statement, const char* table, const Args&... args) {
    return write_all(statement, not_deleted, table, args...);
}
#define MAU_DELETE(table, condition)                         \
    "WITH gone AS (DELETE FROM " table " d WHERE " condition \
    " RETURNING 1)"                                          \
    " SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM " table " d WHERE " condition ")"

/// Runs a statement whose text is made at run time (late-bound queries on a homeserver's tables); not kept.
/// Its search_path is that of `Statement`, as is a cursor's.
Rows execute(const std::string& sql, const std::vector<std::pair<Oid, Param>>& params, bool read_only);

/// A snapshot of what is committed now, in any plan: PostgreSQL's own function for it refuses while a
/// parallel plan runs. To be pushed or registered before the next call. A backend call, so inside a guard
/// only.
Snapshot latest_snapshot();

/// Backend memory for one batch of work after the other, so that many batches need no more than one.
class Scratch {
  public:
    /// Lives until `close`, or as long as the memory that is current now.
    Scratch();
    /// Runs `body` with this as the current memory; what it allocates is valid until the next `reset`.
    template <class Body>
    void run(Body&& body) {
        MemoryContext const outer = MemoryContextSwitchTo(context_);
        body();
        MemoryContextSwitchTo(outer);  // after an exception the catcher switches back
    }
    void reset();
    void close();

  private:
    MemoryContext context_ = nullptr;
};

/// A cursor over a late-bound query, for results that need not fit into memory.
class Cursor {
  public:
    /// Opens the cursor; it is closed by `close`, or by the end of the transaction.
    Cursor(const std::string& sql, const std::vector<std::pair<Oid, Param>>& params);
    /// The next rows, at most `count`; valid until the next fetch. An empty result is the end.
    Rows fetch(long count);
    /// Runs `body` with memory that lasts until the next fetch.
    template <class Body>
    void with_batch(Body&& body) {
        batch_.run(body);
    }
    void close();

  private:
    Scratch batch_;
    Portal portal_ = nullptr;
};

/// Rows that the other statements of an SPI connection read as a table of this name, which hides others that
/// are not qualified: an ephemeral named relation in PostgreSQL. Rows beyond work_mem go to disk.
class NamedRows {
  public:
    struct Column {
        const char* name;
        Oid type;
    };
    NamedRows(const char* name, std::initializer_list<Column> columns);
    /// Replaces all rows by none. Not while a statement reads them.
    void clear();
    /// Adds rows of these columns.
    void add(const Rows& rows);
    /// Frees the rows; call it before the end of the transaction. An error frees them, too.
    void close();

  private:
    MemoryContext home_;
    EphemeralNamedRelation relation_;
};

/// Runs `body` connected to SPI; backend memory allocated inside goes away at its end.
template <class Body>
auto with_spi(Body&& body) -> decltype(body()) {
    guard([] { SPI_connect(); });
    if constexpr (std::is_void_v<decltype(body())>) {
        body();
        guard([] { SPI_finish(); });
    } else {
        auto result = body();
        guard([] { SPI_finish(); });
        return result;
    }
}

}  // namespace mau::pg
