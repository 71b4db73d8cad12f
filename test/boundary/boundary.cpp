// A module that tests load (test/t/030_boundary.pl): SQL functions that fail in every way there is, behind
// the same wrapper and guard as mau's own. It is linked with src/pg/boundary.o and no part of mau.so.
#include <unistd.h>

#include <exception>
#include <malloc.h>
#include <new>

#include "pg/spi.hpp"

extern "C" {
PG_MODULE_MAGIC;
}

namespace {

using namespace mau;

std::int64_t live_objects = 0;     // made and not destroyed yet
std::int64_t objects = 0;          // ever made
std::int64_t live_exceptions = 0;  // of class Tracked

/// Something with a destructor, as any frame of ours may have.
struct Object {
    Object() { ++live_objects, ++objects; }
    Object(const Object&) = delete;
    ~Object() { --live_objects; }
    std::string text = "long enough to be allocated by malloc, and missed if it is not freed again";
};

/// An exception that is counted as long as it lives.
struct Tracked : std::runtime_error {
    explicit Tracked(const std::string& message) : std::runtime_error(message) { ++live_exceptions; }
    Tracked(const Tracked& other) : std::runtime_error(other) { ++live_exceptions; }
    ~Tracked() override { --live_exceptions; }
};

std::string text_argument(FunctionCallInfo fcinfo, int i) {
    if (fcinfo->args[i].isnull) return {};
    return pg::guard([&]() -> const char* { return text_to_cstring(DatumGetTextPP(fcinfo->args[i].value)); });
}

Datum text_result(const std::string& text) {
    return pg::guard([text = text.c_str()] { return CStringGetTextDatum(text); });
}

/// A backend error three guarded frames deep, between frames that own something.
void deep_error(int depth, int state, const char* message, const char* detail, const char* hint) {
    Object here;
    if (depth > 0) return deep_error(depth - 1, state, message, detail, hint);
    pg::guard([&] {
        if (state != 0)  // 00000 is no error
            ereport(ERROR,
                    (errcode(state), errmsg("%s", message), errdetail("%s", detail), errhint("%s", hint)));
    });
}

/// Raises a backend error: (sqlstate, message, detail, hint).
Datum backend_error(FunctionCallInfo fcinfo) {
    Object here;
    const std::string state = text_argument(fcinfo, 0), message = text_argument(fcinfo, 1),
                      detail = text_argument(fcinfo, 2), hint = text_argument(fcinfo, 3);
    deep_error(3, MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]), message.c_str(),
               detail.c_str(), hint.c_str());
    return Datum(0);
}

/// Throws: a kind, and what it carries.
[[noreturn]] void throw_kind(const std::string& kind) {
    Object here;
    if (kind == "ours") throw Error("22023", "an error of ours", "with a detail", "and a hint");
    if (kind == "ours, bare")
        throw Error(sqlstate::object_not_in_prerequisite_state, "nothing but a message");
    if (kind == "ours, long")
        throw Error("22023", std::string(5000, 'm'), std::string(1022, 'd') + "é",
                    std::string(1021, 'h') + "é");
    if (kind == "bad_alloc") {
        volatile std::size_t too_much = PTRDIFF_MAX;
        ::operator delete(::operator new(too_much));
    }
    if (kind == "std") throw Tracked("a standard exception");
    if (kind == "percent") throw Error("22023", "100%s %n %d", "50%s", "25%n");
    throw 42;
}

Datum throws(FunctionCallInfo fcinfo) {
    Object here;
    throw_kind(text_argument(fcinfo, 0));
}

/// The same from inside a guarded call (a nested guard's error passes through it like this).
Datum throws_through_guards(FunctionCallInfo fcinfo) {
    Object here;
    const std::string kind = text_argument(fcinfo, 0);
    pg::guard([&] { pg::guard([&] { throw_kind(kind); }); });
    return Datum(0);
}

/// Answers what was caught after an error passed one guard or two, and what of the backend's state is not
/// restored.
Datum guard_restores(FunctionCallInfo fcinfo) {
    const std::string kind = text_argument(fcinfo, 0);
    sigjmp_buf* const stack = PG_exception_stack;
    ErrorContextCallback* const context_stack = error_context_stack;
    MemoryContext const context = CurrentMemoryContext;
    std::string caught, wrong;
    const auto disturb = [&] {
        ErrorContextCallback callback;
        callback.callback = [](void*) {};
        callback.arg = nullptr;
        callback.previous = error_context_stack;
        error_context_stack = &callback;
        MemoryContextSwitchTo(TopMemoryContext);
        if (kind == "backend") elog(ERROR, "from the backend");
        if (kind == "c++") throw Tracked("from C++");
        MemoryContextSwitchTo(context);
    };
    try {
        Object here;
        if (DatumGetInt32(fcinfo->args[1].value) == 1)
            pg::guard(disturb);
        else
            pg::guard([&] { pg::guard(disturb); });
        caught = "nothing";
    } catch (const pg::BackendError& error) {
        caught = std::string("backend: ") + error.what();
    } catch (const Tracked& error) {
        caught = std::string("c++: ") + error.what();
    }
    if (PG_exception_stack != stack) wrong += " exception stack";
    if (error_context_stack != context_stack) wrong += " error context stack";
    if (kind == "backend" && CurrentMemoryContext != context) wrong += " memory context";
    MemoryContextSwitchTo(context);
    return text_result(caught + (wrong.empty() ? "" : "; not restored:" + wrong));
}

Datum guarded_value(FunctionCallInfo fcinfo) {
    Object here;
    const std::int32_t value = DatumGetInt32(fcinfo->args[0].value);
    return Int32GetDatum(pg::guard([&] { return pg::guard([&] { return value + 1; }) + 1; }));
}

/// Runs SQL inside with_spi, behind a guard.
void run_sql(const std::string& sql) {
    pg::with_spi([&] {
        Object here;
        pg::guard([text = sql.c_str()] {
            if (SPI_execute(text, false, 0) < 0) elog(ERROR, "SPI failed");
        });
    });
}

Datum runs_sql(FunctionCallInfo fcinfo) {
    Object here;
    run_sql(text_argument(fcinfo, 0));
    return Datum(0);
}

Datum in_words(const std::optional<pg::Trouble>& trouble) {
    return text_result(trouble ? trouble->state + ": " + trouble->message +
                                     (trouble->hint.empty() ? "" : " (" + trouble->hint + ")")
                               : "went well");
}

/// Runs SQL in a subtransaction inside with_spi, and SQL again after it; answers the trouble there was.
Datum attempts(FunctionCallInfo fcinfo) {
    Object here;
    const std::string sql = text_argument(fcinfo, 0);
    const bool concurrency_only = !fcinfo->args[1].isnull && DatumGetBool(fcinfo->args[1].value);
    std::optional<pg::Trouble> trouble;
    MemoryContext const context = CurrentMemoryContext;
    ResourceOwner const owner = CurrentResourceOwner;
    const std::int64_t objects_before = live_objects;
    pg::with_spi([&] {
        MemoryContext const spi_context = CurrentMemoryContext;
        trouble = pg::attempt(
            [&] {
                Object inside;
                run_sql(sql);
            },
            concurrency_only ? pg::is_concurrency : pg::is_any);
        if (CurrentMemoryContext != spi_context) throw Error("XX000", "attempt left another memory context");
        run_sql("SELECT 1");
    });
    if (CurrentMemoryContext != context) throw Error("XX000", "with_spi left another memory context");
    if (CurrentResourceOwner != owner) throw Error("XX000", "attempt left another resource owner");
    if (live_objects != objects_before) throw Error("XX000", "attempt left objects");
    return in_words(trouble);
}

/// What an error that an attempt threw on says, after the memory of its subtransaction was used for something
/// else.
Datum attempt_throws_on(FunctionCallInfo) {
    try {
        pg::attempt([] { run_sql("SELECT 1/0"); }, pg::is_concurrency);
    } catch (const pg::BackendError& error) {
        for (int i = 0; i < 100; ++i)
            pg::guard([] {
                MemoryContext const other =
                    AllocSetContextCreate(CurrentMemoryContext, "other", ALLOCSET_SMALL_SIZES);
                std::memset(MemoryContextAlloc(other, 500), 'x', 500);
            });
        return text_result(std::string(unpack_sql_state(error.data()->sqlerrcode)) + ": " + error.what());
    }
    return text_result("nothing");
}

Datum attempts_to_throw(FunctionCallInfo fcinfo) {
    const std::string kind = text_argument(fcinfo, 0);
    const bool concurrency_only = !fcinfo->args[1].isnull && DatumGetBool(fcinfo->args[1].value);
    return in_words(
        pg::attempt([&] { throw_kind(kind); }, concurrency_only ? pg::is_concurrency : pg::is_any));
}

/// Catches `count` backend errors by attempts in one call; answers how many bytes more the backend has then.
Datum attempt_many(FunctionCallInfo fcinfo) {
    const std::int32_t count = DatumGetInt32(fcinfo->args[0].value);
    const auto before = static_cast<std::int64_t>(MemoryContextMemAllocated(TopMemoryContext, true));
    for (std::int32_t i = 0; i < count; ++i)
        pg::attempt([&] {
            Object here;
            pg::guard([] {
                ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("an error to be caught"),
                                errdetail("with a detail"), errhint("and a hint")));
            });
        });
    return Int64GetDatum(static_cast<std::int64_t>(MemoryContextMemAllocated(TopMemoryContext, true)) -
                         before);
}

/// What is there now.
Datum count_live_objects(FunctionCallInfo) {
    return Int64GetDatum(live_objects);
}
Datum count_objects(FunctionCallInfo) {
    return Int64GetDatum(objects);
}

/// Exceptions that are still there: counted ones, ones on their way, and one left behind in a catch block.
Datum count_exceptions(FunctionCallInfo) {
    return Int64GetDatum(live_exceptions + std::uncaught_exceptions() + (std::current_exception() ? 1 : 0));
}

Datum malloc_bytes(FunctionCallInfo) {
    const struct mallinfo2 info = mallinfo2();
    return Int64GetDatum(static_cast<std::int64_t>(info.uordblks + info.hblkhd));
}

Datum nest_level(FunctionCallInfo) {
    return Int32GetDatum(GetCurrentTransactionNestLevel());
}

char linger_until[MAXPGPATH] = "";

/// Waits when the transaction is committed for others to see, before callbacks that were registered earlier
/// are called: until the file is there, or two minutes are over.
void linger(XactEvent event, void*) {
    if (event != XACT_EVENT_COMMIT || linger_until[0] == '\0') return;
    for (int i = 0; i < 12000 && access(linger_until, F_OK) != 0; ++i) pg_usleep(10000);
    linger_until[0] = '\0';
}

Datum lingers(FunctionCallInfo fcinfo) {
    static bool registered = false;
    if (!registered) pg::guard([] { RegisterXactCallback(linger, nullptr); });
    registered = true;
    pg::guard([&] {
        strlcpy(linger_until, text_to_cstring(DatumGetTextPP(fcinfo->args[0].value)), sizeof linger_until);
    });
    return Datum(0);
}
}  // namespace

MAU_FUNCTION(test_backend_error, backend_error);
MAU_FUNCTION(test_throws, throws);
MAU_FUNCTION(test_throws_through_guards, throws_through_guards);
MAU_FUNCTION(test_guard_restores, guard_restores);
MAU_FUNCTION(test_guarded_value, guarded_value);
MAU_FUNCTION(test_runs_sql, runs_sql);
MAU_FUNCTION(test_attempts, attempts);
MAU_FUNCTION(test_attempt_throws_on, attempt_throws_on);
MAU_FUNCTION(test_attempts_to_throw, attempts_to_throw);
MAU_FUNCTION(test_attempt_many, attempt_many);
MAU_FUNCTION(test_live_objects_now, count_live_objects);
MAU_FUNCTION(test_objects_ever, count_objects);
MAU_FUNCTION(test_live_exceptions_now, count_exceptions);
MAU_FUNCTION(test_malloc_bytes_now, malloc_bytes);
MAU_FUNCTION(test_nest_level_now, nest_level);
MAU_FUNCTION(test_lingers, lingers);
