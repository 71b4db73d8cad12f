// Where C++ and the backend meet. A backend error is a longjmp, a C++ error an exception; neither may cross
// frames made for the other. So:
//
//   guard(call)     runs backend calls; an error of theirs comes out as a BackendError exception.
//   entry<body>     is what PostgreSQL calls; whatever the body throws is raised as an ERROR, after the catch
//                   block has closed, so that no exception stays alive behind the longjmp.
//   attempt(call)   runs C++ code in a subtransaction; an error inside is undone and handed back as a value.
//
// A frame owns either destructors or unguarded backend calls, never both; nothing with a destructor is
// created inside a guarded lambda. A guard costs about 12 ns: guard batches, not tuples.
#pragma once

#include "base/error.hpp"
#include "pg/prelude.hpp"

namespace mau::pg {

/// A backend error as it passes through C++ frames. The ErrorData has a memory context to itself
/// (`assoc_context`), a child of the one that was current where it was caught, and goes with that.
class BackendError : public std::exception {
  public:
    explicit BackendError(ErrorData* data) noexcept : data_(data) {}
    const char* what() const noexcept override { return data_->message ? data_->message : "backend error"; }
    ErrorData* data() const noexcept { return data_; }

  private:
    ErrorData* data_;
};

namespace detail {

/// Takes the current error off the backend's stack, with the state that the guard found restored.
inline ErrorData* take_error(MemoryContext context) {
    MemoryContextSwitchTo(AllocSetContextCreate(context, "mau error", ALLOCSET_SMALL_SIZES));
    ErrorData* data = CopyErrorData();
    MemoryContextSwitchTo(context);
    FlushErrorState();
    return data;
}

}  // namespace detail

/// Runs backend calls and returns what they return; a backend error becomes a BackendError.
template <class Call>
auto guard(Call&& call) -> decltype(call()) {
    using Result = decltype(call());
    static_assert(std::is_void_v<Result> || std::is_trivially_destructible_v<Result>,
                  "what crosses the guard must not need a destructor");
    MemoryContext const context = CurrentMemoryContext;
    sigjmp_buf* const outer_stack = PG_exception_stack;
    ErrorContextCallback* const outer_context = error_context_stack;
    sigjmp_buf here;

    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        try {
            if constexpr (std::is_void_v<Result>) {
                call();
                PG_exception_stack = outer_stack;
                error_context_stack = outer_context;
                return;
            } else {
                Result result = call();
                PG_exception_stack = outer_stack;
                error_context_stack = outer_context;
                return result;
            }
        } catch (...) {  // a nested guard's error passing through
            PG_exception_stack = outer_stack;
            error_context_stack = outer_context;
            throw;
        }
    }
    PG_exception_stack = outer_stack;
    error_context_stack = outer_context;
    throw BackendError(detail::take_error(context));
}

/// A view of a text that is neither compressed nor out of line.
inline std::string_view view_of(const void* text) {
    return {VARDATA_ANY(text), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(text))};
}

/// Makes a text in the current memory context; `make_text` inside a guard only.
inline Datum make_text(std::string_view text) {
    return PointerGetDatum(cstring_to_text_with_len(text.data(), static_cast<int>(text.size())));
}
inline Datum text_datum(std::string_view text) {
    return guard([&] { return make_text(text); });
}

/// What went wrong, as plain data that outlives the exception: recorded inside a catch block, raised after
/// it.
struct Failure {
    ErrorData* backend;  // set: raise this again as it was
    char state[6];
    char message[1024];
    char detail[1024];
    char hint[1024];

    /// Records the exception being handled; call it in a catch block only.
    void record() noexcept;
    /// Raises what was recorded as an ERROR; never call it inside a catch block.
    [[noreturn]] void raise() const;
};

/// The error that is being raised. It is not in the wrappers' own frames, because there every call would
/// touch its memory.
extern Failure failure;

/// The wrapper of every SQL-callable function.
template <Datum (*Body)(FunctionCallInfo)>
Datum entry(FunctionCallInfo fcinfo) {
    try {
        return Body(fcinfo);
    } catch (...) {
        failure.record();
    }
    failure.raise();
}

/// The wrapper of callbacks that PostgreSQL makes into our code and that answer nothing.
template <class Body>
void enter(Body&& body) {
    try {
        body();
        return;
    } catch (...) {
        failure.record();
    }
    failure.raise();
}

/// An error that was undone: its SQLSTATE, message, hint and detail, for reporting.
struct Trouble {
    std::string state, message, hint, detail{};

    /// The error in one line that may be stored. It has the detail only for corrupt data, because other
    /// details may name a user.
    std::string text() const {
        return detail.empty() || state != sqlstate::data_corrupted ? message : message + ": " + detail;
    }
};

/// Describes the exception being handled, of any type; call it in a catch block only.
Trouble describe_current_exception();

/// Whether PostgreSQL keeps the memory context of a subtransaction until the transaction ends (memory), or we
/// delete it when the subtransaction has ended well (nothing). A trigger or a NOTIFY of others may need it
/// later; our own statements do not. A context takes 8 kB, and a task may run thousands of subtransactions.
enum class Keeps { memory, nothing };

namespace detail {
void begin_subtransaction();
void release_subtransaction(MemoryContext context, ResourceOwner owner, Keeps keeps);
void rollback_subtransaction(MemoryContext context, ResourceOwner owner);

/// An exception that was caught, in a form that outlives the subtransaction it comes from.
struct Caught {
    std::exception_ptr error;
    ErrorData* data = nullptr;       // the backend error's
    std::optional<Trouble> trouble;  // nothing: it must not be taken

    void keep(MemoryContext context);
    void forget();
};
}  // namespace detail

/// Whether an error comes of concurrency: serialization failure, deadlock, lock not available.
inline bool is_concurrency(const Trouble& trouble) {
    return trouble.state == "40001" || trouble.state == "40P01" || trouble.state == "55P03";
}
inline bool is_any(const Trouble&) {
    return true;
}

/// Runs `body` in a subtransaction. Returns nothing if it went well; if it threw, the subtransaction is
/// rolled back, and the error is handed back as a value if `takes` takes it. Every other error is thrown on,
/// cancellation and termination always: our caller may catch it in a subtransaction, and has to find that
/// error.
template <class Body>
std::optional<Trouble> attempt(Body&& body, bool (*takes)(const Trouble&) = is_any,
                               Keeps keeps = Keeps::memory) {
    MemoryContext const context = CurrentMemoryContext;
    ResourceOwner const owner = CurrentResourceOwner;
    guard([] { detail::begin_subtransaction(); });
    MemoryContextSwitchTo(context);
    detail::Caught caught;
    try {
        body();
    } catch (...) {
        caught.error = std::current_exception();
    }
    if (!caught.error) {
        guard([&] { detail::release_subtransaction(context, owner, keeps); });
        return std::nullopt;
    }
    caught.keep(context);
    guard([&] { detail::rollback_subtransaction(context, owner); });
    if (!caught.trouble || !takes(*caught.trouble)) std::rethrow_exception(caught.error);
    caught.forget();
    return std::move(caught.trouble);
}

}  // namespace mau::pg

/// Defines the SQL-callable C function `name` with `body` (Datum (*)(FunctionCallInfo)) behind the entry
/// wrapper.
#define MAU_FUNCTION(name, body)               \
    extern "C" {                               \
    PG_FUNCTION_INFO_V1(name);                 \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS) { \
        return mau::pg::entry<body>(fcinfo);   \
    }                                          \
    }                                          \
    static_assert(true, "")
