// The aggregates of the warehouse: figures of one chunk from its bitmaps, and their sums over chunks. They
// read no table, so they work on copies of mau.active_days in any database.
//
// The state of a chunk's aggregate is one block of memory in the aggregate's context. It is made at the first
// row, and has no destructor.
#include "history/chunk_question.hpp"

#include "history/arguments.hpp"
#include "history/history.hpp"

namespace mau {
namespace {

using namespace history;
using Figure = ChunkQuestion::Figure;

constexpr std::size_t kMostRows = 4096;    // of days in memory: 32 MB
constexpr std::size_t kMostPeriods = 400;  // of retention

/// The memory context of the aggregate that calls. Errors: 55000 for any other caller.
MemoryContext context_of(FunctionCallInfo fcinfo) {
    MemoryContext context = nullptr;
    if (!AggCheckCallContext(fcinfo, &context))
        throw Error(sqlstate::object_not_in_prerequisite_state, "called outside an aggregate", {},
                    "Call the aggregate that this function belongs to.");
    return context;
}

/// The state of the group of a final function; for a group without rows null, and the result is NULL.
template <class State>
const State* state_of_group(FunctionCallInfo fcinfo) {
    context_of(fcinfo);
    fcinfo->isnull = fcinfo->args[0].isnull;
    return fcinfo->isnull ? nullptr : reinterpret_cast<const State*>(fcinfo->args[0].value);
}

/// Memory for so many rows in a context, aligned for the algebra.
bitmap::BitRows allocate_rows(MemoryContext context, std::size_t rows) {
    void* const memory = pg::guard([&] {
        return MemoryContextAllocExtended(context, bitmap::BitRows::bytes(rows) + 64, MCXT_ALLOC_HUGE);
    });
    return {reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(memory) + 63) & ~std::uintptr_t{63}),
            rows};
}

/// The numbers of the arguments of a step; the state is argument 0.
struct Places {
    int from_day, day, users, signups, left_out;  // signups: -1 if there are none
};
constexpr Places kWithWindow{1, 4, 5, -1, 6};
constexpr Places kWithoutWindow{1, 3, 4, -1, 5};
constexpr Places kOfRetention{2, 4, 5, 6, 7};

constexpr Places places_of(Figure figure) {
    return figure == Figure::retention ? kOfRetention
           : figure == Figure::r30v2   ? kWithoutWindow
                                       : kWithWindow;
}

struct ChunkState {
    ChunkQuestion question;
    ChunkRows rows;
    varlena* mask = nullptr;  // the latest, as it was passed; mostly it is the same in every row
};

DayRange required_range(FunctionCallInfo fcinfo, int from_day) {
    if (fcinfo->args[from_day].isnull || fcinfo->args[from_day + 1].isnull)
        throw Error(sqlstate::invalid_parameter, "from_day and to_day must not be NULL", {},
                    "Pass the first and the last day.");
    return range_of(fcinfo, from_day, 0, 1);
}

/// The question of a row's arguments. Errors: 22023, 22008.
ChunkQuestion question_of_row(FunctionCallInfo fcinfo, Figure figure, const Places& places) {
    ChunkQuestion question;
    question.figure = figure;
    question.days = required_range(fcinfo, places.from_day);
    if (figure == Figure::series || figure == Figure::growth)
        question.window = number_of(fcinfo, 3, "window_days", 30, 1, kLongestWindow);
    if (figure == Figure::retention) question.unit = period_of(pg::Arguments(fcinfo), 1);
    const std::size_t most = figure == Figure::retention ? 2 * kMostPeriods : kMostRows;
    if (question.rows() > most)
        throw Error(sqlstate::invalid_parameter, "too many days",
                    "The question takes " + std::to_string(question.rows()) + " bitmaps of each chunk.",
                    "The largest number is " + std::to_string(most) +
                        ": ask for fewer days or periods, or for a shorter window.");
    return question;
}

ChunkState* make_state(FunctionCallInfo fcinfo, const ChunkQuestion& question) {
    MemoryContext const context = context_of(fcinfo);
    const bitmap::BitRows memory = allocate_rows(context, question.rows() + 1);
    void* const place = pg::guard([&] { return MemoryContextAlloc(context, sizeof(ChunkState)); });
    return new (place) ChunkState{question, ChunkRows(memory)};
}

/// Takes over a mask, unless it is the same as in the row before.
void add_mask(FunctionCallInfo fcinfo, ChunkState& state, int i) {
    if (fcinfo->args[i].isnull) return;
    // As it is stored: a pointer to a large mask is compared, not the mask.
    const auto* const raw = reinterpret_cast<varlena*>(DatumGetPointer(fcinfo->args[i].value));
    const std::size_t size = VARSIZE_ANY(raw);
    if (state.mask && VARSIZE_ANY(state.mask) == size && std::memcmp(state.mask, raw, size) == 0) return;
    const std::string_view mask = *pg::Arguments(fcinfo).text(i);
    if (mask.empty()) return;
    state.rows.leave_out(mask.data(), mask.size());
    state.mask = pg::guard([&, context = context_of(fcinfo)] {
        if (state.mask) pfree(state.mask);
        return static_cast<varlena*>(std::memcpy(MemoryContextAlloc(context, size), raw, size));
    });
}

/// The day of a row. Errors: 22008 outside 1970 to 2999; -infinity is a day.
Day day_of_row(FunctionCallInfo fcinfo, int i) {
    const DateADT date = DatumGetDateADT(fcinfo->args[i].value);
    if (DATE_IS_NOBEGIN(date)) return kBefore;
    return *optional_day(fcinfo, i, "day");
}

/// Adds a row to the state of its group.
template <Figure figure>
Datum step(FunctionCallInfo fcinfo) {
    constexpr Places places = places_of(figure);
    const pg::Arguments args(fcinfo);
    const ChunkQuestion question = question_of_row(fcinfo, figure, places);
    auto* state = reinterpret_cast<ChunkState*>(args.is_null(0) ? 0 : fcinfo->args[0].value);
    if (!state)
        state = make_state(fcinfo, question);
    else if (!(question == state->question))
        throw Error(sqlstate::invalid_parameter, "rows of one group ask different questions", {},
                    "Pass the same days, window or cohort in every row.");
    if (!args.is_null(places.day)) {
        const Day day = day_of_row(fcinfo, places.day);
        const auto add = [&](std::optional<std::size_t> row, int i) {
            if (!row || args.is_null(i)) return;
            const std::string_view users = *args.text(i);
            state->rows.add(*row, users.data(), users.size(), day);
        };
        add(question.row_of(day), places.users);
        if (places.signups >= 0) add(question.signup_row_of(day), places.signups);
    }
    add_mask(fcinfo, *state, places.left_out);
    return PointerGetDatum(state);
}

/// An array of numbers as bigint[].
Datum array_of(const std::vector<std::int64_t>& numbers, const std::vector<int>& shape) {
    return pg::guard([&] {
        auto* const cells = static_cast<Datum*>(palloc(numbers.size() * sizeof(Datum)));
        int sizes[MAXDIM], first[MAXDIM];
        for (std::size_t i = 0; i < numbers.size(); ++i) cells[i] = Int64GetDatum(numbers[i]);
        for (std::size_t i = 0; i < shape.size(); ++i) sizes[i] = shape[i], first[i] = 1;
        return PointerGetDatum(construct_md_array(cells, nullptr, static_cast<int>(shape.size()), sizes,
                                                  first, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                                                  TYPALIGN_DOUBLE));
    });
}

/// The answer about a chunk; NULL for a group without rows.
Datum answer(FunctionCallInfo fcinfo) {
    const auto* const state = state_of_group<ChunkState>(fcinfo);
    if (!state) return Datum(0);
    const ChunkQuestion& question = state->question;
    check_for_interrupts();
    return array_of(question.answer(state->rows.rows(), scratch(question.scratch())), question.shape());
}

// --- Sums over chunks ---

/// Adds an array to the sum, which is changed in place inside the aggregate.
Datum add_arrays(FunctionCallInfo fcinfo) {
    enum class Trouble { none, shape, nulls, overflow };
    struct Sum {
        Datum datum;
        Trouble trouble;
    };
    const Sum sum = pg::guard([&]() -> Sum {
        Datum* const datums[] = {&fcinfo->args[0].value, &fcinfo->args[1].value};
        ArrayType* const to = AggCheckCallContext(fcinfo, nullptr) ? DatumGetArrayTypeP(*datums[0])
                                                                   : DatumGetArrayTypePCopy(*datums[0]);
        ArrayType* const with = DatumGetArrayTypeP(*datums[1]);
        const Sum failed{0, Trouble::shape};
        if (ARR_NDIM(to) != ARR_NDIM(with) ||
            std::memcmp(ARR_DIMS(to), ARR_DIMS(with), sizeof(int) * static_cast<std::size_t>(ARR_NDIM(to))) !=
                0)
            return failed;
        if (array_contains_nulls(to) || array_contains_nulls(with)) return {0, Trouble::nulls};
        const int count = ArrayGetNItems(ARR_NDIM(to), ARR_DIMS(to));
        auto* const numbers = reinterpret_cast<int64*>(ARR_DATA_PTR(to));
        const auto* const more = reinterpret_cast<const int64*>(ARR_DATA_PTR(with));
        for (int i = 0; i < count; ++i)
            if (__builtin_add_overflow(numbers[i], more[i], &numbers[i])) return {0, Trouble::overflow};
        return {PointerGetDatum(to), Trouble::none};
    });
    constexpr const char* kHint = "Add only arrays of one question, as mau.series returns them.";
    switch (sum.trouble) {
        case Trouble::none:
            break;
        case Trouble::shape:
            throw Error(sqlstate::invalid_parameter, "arrays of different sizes cannot be added", {}, kHint);
        case Trouble::nulls:
            throw Error(sqlstate::invalid_parameter, "arrays with NULL cannot be added", {}, kHint);
        case Trouble::overflow:
            throw Error("22003", "bigint out of range", {}, kHint);
    }
    return sum.datum;
}

// --- Bitmaps from numbers of users ---

struct BitmapState {
    std::int32_t chunk;
    bitmap::Bits users;
};

Datum add_user(FunctionCallInfo fcinfo) {
    auto* state = reinterpret_cast<BitmapState*>(fcinfo->args[0].isnull ? 0 : fcinfo->args[0].value);
    const bool is_null = fcinfo->args[1].isnull;
    if (is_null) {
        fcinfo->isnull = !state;
        return PointerGetDatum(state);
    }
    const std::int64_t user_no = DatumGetInt64(fcinfo->args[1].value);
    if (user_no < 0 || user_no > kLastNumber)
        throw Error(sqlstate::invalid_parameter, "user_no is out of range",
                    "It is " + std::to_string(user_no) + ".",
                    "It is from 0 to " + std::to_string(kLastNumber) + ".");
    if (!state) {
        MemoryContext const context = context_of(fcinfo);
        state = static_cast<BitmapState*>(
            pg::guard([&] { return MemoryContextAlloc(context, sizeof(BitmapState)); }));
        state->chunk = chunk_of(user_no);
        state->users.clear();
    }
    if (chunk_of(user_no) != state->chunk)
        throw Error(sqlstate::invalid_parameter, "users of several chunks in one group",
                    "They are chunks " + std::to_string(state->chunk) + " and " +
                        std::to_string(chunk_of(user_no)) + ".",
                    "Add GROUP BY user_no >> 16.");
    state->users.set(position_of(user_no));
    return PointerGetDatum(state);
}

Datum bitmap_of(FunctionCallInfo fcinfo) {
    const auto* const state = state_of_group<BitmapState>(fcinfo);
    if (!state) return Datum(0);
    const std::size_t size = bitmap::encoded_size(state->users.count());
    auto* const bytes = static_cast<bytea*>(pg::guard([&] { return palloc(VARHDRSZ + size); }));
    bitmap::encode(state->users, bitmap::key_of(static_cast<std::uint64_t>(state->chunk)),
                   reinterpret_cast<std::uint8_t*>(VARDATA(bytes)));
    SET_VARSIZE(bytes, VARHDRSZ + size);
    return PointerGetDatum(bytes);
}

}  // namespace

MAU_FUNCTION(mau_series_step, step<Figure::series>);
MAU_FUNCTION(mau_series_growth_step, step<Figure::growth>);
MAU_FUNCTION(mau_series_r30v2_step, step<Figure::r30v2>);
MAU_FUNCTION(mau_series_retention_step, step<Figure::retention>);
MAU_FUNCTION(mau_series_answer, answer);
MAU_FUNCTION(mau_add_step, add_arrays);
MAU_FUNCTION(mau_bitmap_step, add_user);
MAU_FUNCTION(mau_bitmap_answer, bitmap_of);

}  // namespace mau
