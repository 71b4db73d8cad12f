#include "pg/boundary.hpp"

namespace mau::pg {

namespace {

template <std::size_t N>
void copy(char (&to)[N], std::string_view from) noexcept {
    std::size_t length = from.size() < N - 1 ? from.size() : N - 1;
    while (length > 0 && length < from.size() && (static_cast<unsigned char>(from[length]) & 0xC0) == 0x80) {
        --length;  // do not cut a UTF-8 character in two
    }
    std::memcpy(to, from.data(), length);
    to[length] = '\0';
}

/// Whether the error asks for the end of the statement or the session, so that it must not be swallowed.
bool must_pass(const ErrorData* data) noexcept {
    return data->sqlerrcode == ERRCODE_QUERY_CANCELED || data->elevel >= FATAL ||
           ERRCODE_TO_CATEGORY(data->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION;
}

}  // namespace

Failure failure;

void Failure::record() noexcept {
    backend = nullptr;
    copy(state, sqlstate::internal_error);
    message[0] = detail[0] = hint[0] = '\0';
    try {
        throw;
    } catch (const BackendError& error) {
        backend = error.data();
    } catch (const Error& error) {
        copy(state, error.state());
        copy(message, error.what());
        copy(detail, error.detail());
        copy(hint, error.hint());
    } catch (const std::bad_alloc&) {
        copy(state, "53200");
        copy(message, "out of memory");
        copy(detail, "mau could not allocate memory outside PostgreSQL's memory contexts.");
    } catch (const std::exception& error) {
        copy(message, error.what());
    } catch (...) {
        copy(message, "unknown C++ exception in mau");
    }
}

void Failure::raise() const {
    if (backend) ReThrowError(backend);
    ereport(ERROR,
            (errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])), errmsg("%s", message),
             detail[0] ? errdetail("%s", detail) : 0, hint[0] ? errhint("%s", hint) : 0));
    pg_unreachable();
}

Trouble describe_current_exception() {
    try {
        throw;
    } catch (const BackendError& error) {
        const ErrorData* data = error.data();
        return Trouble{unpack_sql_state(data->sqlerrcode), error.what(), data->hint ? data->hint : "",
                       data->detail ? data->detail : ""};
    } catch (const Error& error) {
        return Trouble{error.state(), error.what(), error.hint(), error.detail()};
    } catch (const std::bad_alloc&) {
        return Trouble{"53200", "out of memory", "", ""};
    } catch (const std::exception& error) {
        return Trouble{sqlstate::internal_error, error.what(), "", ""};
    } catch (...) {
        return Trouble{sqlstate::internal_error, "unknown C++ exception in mau", "", ""};
    }
}

namespace detail {

void begin_subtransaction() {
    BeginInternalSubTransaction(nullptr);
}

void release_subtransaction(MemoryContext context, ResourceOwner owner, Keeps keeps) {
    MemoryContext const own = CurTransactionContext;
    const bool stays = !MemoryContextIsEmpty(own);  // else PostgreSQL deletes it
    ReleaseCurrentSubTransaction();
    if (stays && keeps == Keeps::nothing) MemoryContextDelete(own);
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
}

void rollback_subtransaction(MemoryContext context, ResourceOwner owner) {
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
}

/// Describes the caught error, and moves a backend error out of the subtransaction's memory, below `context`.
void Caught::keep(MemoryContext context) {
    try {
        std::rethrow_exception(error);
    } catch (const BackendError& backend) {
        data = backend.data();
    } catch (...) {
        Failure other;
        other.record();
        trouble = Trouble{other.state, other.message, other.hint};
    }
    if (!data) return;
    guard([&] { MemoryContextSetParent(data->assoc_context, context); });
    if (!must_pass(data))
        trouble = Trouble{unpack_sql_state(data->sqlerrcode), data->message ? data->message : "",
                          data->hint ? data->hint : ""};
}

/// Frees an error that was taken: many may be taken before the surrounding memory is reset. (FreeErrorData
/// would leave some of what CopyErrorData copies.)
void Caught::forget() {
    error = nullptr;
    if (data) guard([this] { MemoryContextDelete(data->assoc_context); });
    data = nullptr;
}

}  // namespace detail

}  // namespace mau::pg
