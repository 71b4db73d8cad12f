#include "pg/spi.hpp"

namespace mau::pg {

namespace {

/// The properties of an array's element type.
struct ElementType {
    Oid oid;
    int length;
    bool by_value;
    char align;
};

/// Makes an array of `items`; `convert` returns an item's datum, or nothing for NULL. Inside a guard only.
template <class Item, class Convert>
Datum array_datum(const void* items, std::size_t count, const ElementType& type, Convert&& convert) {
    if (count == 0) return PointerGetDatum(construct_empty_array(type.oid));
    auto* elements = static_cast<Datum*>(palloc(sizeof(Datum) * count));
    auto* nulls = static_cast<bool*>(palloc(count));
    for (std::size_t i = 0; i < count; ++i) {
        const std::optional<Datum> element = convert(static_cast<const Item*>(items)[i]);
        nulls[i] = !element;
        elements[i] = element.value_or(0);
    }
    int dims[1] = {static_cast<int>(count)};
    int lower[1] = {1};
    return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, lower, type.oid, type.length,
                                              type.by_value, type.align));
}

/// Copies SPI's current result into plain arrays in the current memory; inside a guard only.
Rows collect() {
    Rows rows;
    rows.count = SPI_processed;
    if (!SPI_tuptable) return rows;
    TupleDesc const shape = SPI_tuptable->tupdesc;
    rows.columns = shape->natts;
    const auto cells = static_cast<Size>(rows.count) * static_cast<Size>(rows.columns);
    rows.values = static_cast<Datum*>(palloc_extended(sizeof(Datum) * (cells + 1), MCXT_ALLOC_HUGE));
    rows.nulls = static_cast<bool*>(palloc_extended(sizeof(bool) * (cells + 1), MCXT_ALLOC_HUGE));
    for (std::uint64_t row = 0; row < rows.count; ++row) {
        Datum* values = rows.values + row * static_cast<std::uint64_t>(rows.columns);
        bool* nulls = rows.nulls + row * static_cast<std::uint64_t>(rows.columns);
        heap_deform_tuple(SPI_tuptable->vals[row], shape, values, nulls);
        for (int column = 0; column < rows.columns; ++column) {
            Form_pg_attribute const attribute = TupleDescAttr(shape, column);
            if (nulls[column] || attribute->attbyval) continue;
            // A copy in any case: the tuple goes with SPI's table.
            values[column] = attribute->attlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(values[column]))
                                                     : datumCopy(values[column], false, attribute->attlen);
        }
    }
    return rows;
}

void check(int result) {
    if (result < 0) elog(ERROR, "mau: SPI failed: %s", SPI_result_code_string(result));
}

/// The snapshot for a reading statement of a REPEATABLE READ transaction that had written before the caller's
/// statement began; nothing in all other cases, where the caller's snapshot is used. mau writes with a fresh
/// snapshot. If it updates a row that another transaction has changed since the start of this one, the
/// transaction's own snapshot shows two versions of the row. The snapshot here is newer. It is taken again
/// only after the transaction's next write, so that all figures of a statement agree. Vacuum keeps its rows
/// because the transaction's own snapshot is older. Inside a guard only.
Snapshot snapshot_after_writes() {
    if (!IsolationUsesXactSnapshot() || !ActiveSnapshotSet()) return nullptr;
    CommandId const command = GetActiveSnapshot()->curcid;
    FullTransactionId const transaction = GetTopFullTransactionIdIfAny();
    if (command == FirstCommandId || !FullTransactionIdIsValid(transaction)) return nullptr;
    static SnapshotData snapshot = {SNAPSHOT_MVCC};
    static FullTransactionId taken_in = InvalidFullTransactionId;
    if (!FullTransactionIdEquals(taken_in, transaction) || snapshot.curcid != command) {
        taken_in = InvalidFullTransactionId;  // in case of an error
        GetSnapshotData(&snapshot);
        snapshot.curcid = command;
        taken_in = transaction;
    }
    return &snapshot;
}

/// Makes the names and operators of a statement mean PostgreSQL's own while it runs, whatever the caller's
/// search_path is; triggers that the statement fires see the same path. Returns what `restore_search_path`
/// wants. After an error PostgreSQL restores the path. Inside a guard only.
int pin_search_path() {
    constexpr const char* kPath = "pg_catalog, pg_temp";
    if (std::strcmp(namespace_search_path, kPath) == 0) return 0;
    int const level = NewGUCNestLevel();
    set_config_option("search_path", kPath, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    return level;
}

void restore_search_path(int level) {
    if (level > 0) AtEOXact_GUC(true, level);  // what triggers have set, stays
}

/// The parameters of a late-bound statement as arrays; inside a guard only.
struct Bound {
    int count;
    Oid* types;
    Datum* values;
    char* nulls;
};

Bound bind(const std::pair<Oid, Param>* params, std::size_t count) {
    Bound bound;
    bound.count = static_cast<int>(count);
    bound.types = static_cast<Oid*>(palloc(sizeof(Oid) * (count + 1)));
    bound.values = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    bound.nulls = static_cast<char*>(palloc(count + 1));
    for (std::size_t i = 0; i < count; ++i) {
        bound.types[i] = params[i].first;
        bound.nulls[i] = params[i].second.is_null() ? 'n' : ' ';
        bound.values[i] = params[i].second.datum();
    }
    return bound;
}

}  // namespace

Datum Param::datum() const {
    constexpr ElementType kInt8 = {INT8OID, 8, true, TYPALIGN_DOUBLE};
    switch (kind_) {
        case Kind::null:
            return 0;
        case Kind::scalar:
            return scalar_;
        case Kind::text:
            return make_text(text_);
        case Kind::bytes:
        case Kind::texts:
            return array_datum<std::string_view>(
                items_, count_,
                {kind_ == Kind::bytes ? Oid{BYTEAOID} : Oid{TEXTOID}, -1, false, TYPALIGN_INT},
                [](std::string_view item) {
                    return item.data() ? std::optional(make_text(item)) : std::nullopt;
                });
        case Kind::integers:
            return array_datum<std::int64_t>(items_, count_, kInt8,
                                             [](std::int64_t item) { return Int64GetDatum(item); });
        case Kind::optional_integers:
            return array_datum<std::optional<std::int64_t>>(
                items_, count_, kInt8, [](const std::optional<std::int64_t>& item) {
                    return item ? std::optional(Int64GetDatum(*item)) : std::nullopt;
                });
        case Kind::booleans:
            return array_datum<char>(items_, count_, {BOOLOID, 1, true, TYPALIGN_CHAR},
                                     [](char item) { return BoolGetDatum(item != 0); });
    }
    return 0;
}

Rows Statement::run(std::initializer_list<Param> params, Mode mode) {
    // Rows that row security hides would make figures wrong: PostgreSQL raises instead. Statements that write
    // keep the setting, because others' triggers run in them.
    const bool before = row_security;
    if (mode != Mode::write) row_security = false;
    try {
        const Rows rows = execute_plan(params, mode);
        row_security = before;
        return rows;
    } catch (...) {
        row_security = before;
        throw;
    }
}

Rows Statement::execute_plan(std::initializer_list<Param> params, Mode mode) {
    return guard([&, count = static_cast<int>(params.size())]() -> Rows {
        if (count != count_)
            elog(ERROR, "mau: statement wants %d parameters, not %d: %s", count_, count, sql_);
        MemoryContext const memory = CurrentMemoryContext;  // SPI leaves us in its own
        int const level = pin_search_path();
        if (!plan_) {
            SPIPlanPtr plan = SPI_prepare(sql_, count_, types_);
            if (!plan) check(SPI_result);
            SPI_keepplan(plan);
            plan_ = plan;
            MemoryContextSwitchTo(memory);
        }
        Datum values[kMaxParams];
        char nulls[kMaxParams];
        for (int i = 0; i < count; ++i) {
            nulls[i] = params.begin()[i].is_null() ? 'n' : ' ';
            values[i] = params.begin()[i].datum();
        }
        Snapshot const snapshot = mode == Mode::read ? snapshot_after_writes() : latest_snapshot();
        if (snapshot)
            check(SPI_execute_snapshot(plan_, values, nulls, snapshot, InvalidSnapshot, mode != Mode::write,
                                       true, 0));
        else
            check(SPI_execute_plan(plan_, values, nulls, true, 0));
        restore_search_path(level);
        MemoryContextSwitchTo(memory);
        Rows rows = collect();
        SPI_freetuptable(SPI_tuptable);
        return rows;
    });
}

// A function of ours runs in the leader of a parallel plan only, and pushes and pops its own snapshot: the
// workers' are not touched.
Snapshot latest_snapshot() {
    if (!IsInParallelMode()) return GetLatestSnapshot();
    static SnapshotData latest = {SNAPSHOT_MVCC};
    return GetSnapshotData(&latest);
}

Rows execute(const std::string& sql, const std::vector<std::pair<Oid, Param>>& params, bool read_only) {
    return guard([&, text = sql.c_str(), data = params.data(), size = params.size()]() -> Rows {
        MemoryContext const memory = CurrentMemoryContext;  // SPI leaves us in its own
        Bound const bound = bind(data, size);
        int const level = pin_search_path();
        check(SPI_execute_with_args(text, bound.count, bound.types, bound.values, bound.nulls, read_only, 0));
        restore_search_path(level);
        MemoryContextSwitchTo(memory);
        Rows rows = collect();
        SPI_freetuptable(SPI_tuptable);
        return rows;
    });
}

Scratch::Scratch() {
    guard([&] {
        context_ = AllocSetContextCreate(CurrentMemoryContext, "mau scratch", ALLOCSET_DEFAULT_SIZES);
    });
}

void Scratch::reset() {
    guard([&] { MemoryContextReset(context_); });
}

void Scratch::close() {
    guard([&] { MemoryContextDelete(context_); });
    context_ = nullptr;
}

Cursor::Cursor(const std::string& sql, const std::vector<std::pair<Oid, Param>>& params) {
    guard([&, text = sql.c_str(), data = params.data(), size = params.size()] {
        Bound const bound = bind(data, size);
        int const level = pin_search_path();  // operators are looked up when the cursor is opened
        portal_ = SPI_cursor_open_with_args(nullptr, text, bound.count, bound.types, bound.values,
                                            bound.nulls, true, CURSOR_OPT_NO_SCROLL);
        restore_search_path(level);
    });
}

Rows Cursor::fetch(long count) {
    batch_.reset();
    Rows rows;
    batch_.run([&] {
        rows = guard([&]() -> Rows {
            MemoryContext const memory = CurrentMemoryContext;
            SPI_cursor_fetch(portal_, true, count);
            MemoryContextSwitchTo(memory);  // SPI leaves us in its own, which lives as long as the statement
            Rows fetched = collect();
            SPI_freetuptable(SPI_tuptable);
            return fetched;
        });
    });
    return rows;
}

void Cursor::close() {
    guard([&] { SPI_cursor_close(portal_); });
    portal_ = nullptr;
    batch_.close();
}

NamedRows::NamedRows(const char* name, std::initializer_list<Column> columns) {
    guard([&, first = columns.begin(), count = static_cast<int>(columns.size())] {
        home_ = CurrentMemoryContext;
        relation_ = static_cast<EphemeralNamedRelation>(palloc0(sizeof *relation_));
        relation_->md.name = pstrdup(name);
        relation_->md.enrtype = ENR_NAMED_TUPLESTORE;
        relation_->md.tupdesc = CreateTemplateTupleDesc(count);
        for (int i = 0; i < count; ++i)
            TupleDescInitEntry(relation_->md.tupdesc, static_cast<AttrNumber>(i + 1), first[i].name,
                               first[i].type, -1, 0);
        SPI_unregister_relation(name);  // of an attempt that failed
        check(SPI_register_relation(relation_));
    });
    clear();
}

void NamedRows::clear() {
    close();
    guard([&] {
        MemoryContext const memory = MemoryContextSwitchTo(home_);
        relation_->reldata = tuplestore_begin_heap(false, false, work_mem);
        relation_->md.enrtuples = 0;
        MemoryContextSwitchTo(memory);
    });
}

void NamedRows::add(const Rows& rows) {
    guard([&] {
        const auto columns = static_cast<std::uint64_t>(rows.columns);
        for (std::uint64_t row = 0; row < rows.count; ++row)
            tuplestore_putvalues(static_cast<Tuplestorestate*>(relation_->reldata), relation_->md.tupdesc,
                                 rows.values + row * columns, rows.nulls + row * columns);
        relation_->md.enrtuples += static_cast<double>(rows.count);
    });
}

void NamedRows::close() {
    guard([&] {
        if (relation_->reldata) tuplestore_end(static_cast<Tuplestorestate*>(relation_->reldata));
        relation_->reldata = nullptr;
    });
}

}  // namespace mau::pg
