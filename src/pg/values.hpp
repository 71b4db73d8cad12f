// Arguments and results of SQL-callable functions: converts between PostgreSQL's values and ours.
#pragma once

#include "rules/calendar.hpp"
#include "pg/spi.hpp"

namespace mau {
/// The first instant that is too late to be stored: the year 3000.
inline constexpr Instant kEndOfTime = 32503680000000;
}  // namespace mau

namespace mau::pg {

inline constexpr std::int64_t kEpochShift =  // from 1970 to PostgreSQL's 2000, in microseconds
    static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

/// A timestamptz as epoch milliseconds, rounded down.
inline Instant to_instant(TimestampTz time) {
    const std::int64_t micros = time + kEpochShift;
    return micros >= 0 ? micros / 1000 : -((-micros + 999) / 1000);
}
/// Epoch milliseconds as timestamptz.
inline constexpr TimestampTz to_timestamp(Instant instant) {
    return instant * 1000 - kEpochShift;
}

/// Whether an id can be taken: not empty, at most 255 bytes (the Matrix specification's limit), valid in
/// UTF-8.
inline bool valid_user_id(std::string_view id);
/// Checks a user id; the error names the argument.
inline void check_user_id(std::string_view id, const char* name);
/// Checks an instant; the error shows the value.
inline Instant check_instant(TimestampTz time, const char* name);

/// A text of another database, which may have another encoding, or be cut within a character: each byte above
/// 127 is `?` where it is not valid here.
std::string readable(const char* text);

/// The arguments of a call, read with a clear error for a missing one.
class Arguments {
  public:
    explicit Arguments(FunctionCallInfo fcinfo) : fcinfo_(fcinfo) {}

    bool is_null(int i) const { return fcinfo_->nargs <= i || fcinfo_->args[i].isnull; }
    /// A text, or nothing for NULL. The view lives as long as the call.
    std::optional<std::string_view> text(int i) const;
    std::optional<bool> boolean(int i) const;
    std::optional<std::int64_t> integer(int i) const;
    /// The instant of argument `i`; NULL, infinite and absurd times are errors that name the argument.
    Instant instant(int i, const char* name = "at") const;
    /// How many rows a task may handle: positive; NULL = all.
    std::int64_t max_rows(int i) const;
    /// A user id: not NULL, and valid.
    std::string_view user_id(int i, const char* name = "user_id") const;
    /// The name of something, such as a user type: a text of at most 255 bytes, or nothing for NULL.
    std::optional<std::string_view> name(int i, const char* name) const;
    /// A text that must be given.
    std::string_view required_text(int i, const char* name) const;

  private:
    FunctionCallInfo fcinfo_;
};

/// The jsonb of a JSON text.
Datum jsonb_datum(const std::string& json);

/// The trigger that called the function, on a table of mau's own. Any other caller, or a trigger on another
/// table, gets 39P01.
TriggerData* trigger_of(FunctionCallInfo fcinfo);

/// The rows of a set-returning function, in a tuplestore.
class ResultSet {
  public:
    /// `Shape::column` for SETOF of a plain type, `Shape::row` for RETURNS TABLE.
    enum class Shape { row, column };
    explicit ResultSet(FunctionCallInfo fcinfo, Shape shape = Shape::row);
    void add(std::initializer_list<Param> cells);

  private:
    ReturnSetInfo* info_;
};

// --- The code on the path of every call, inline; errors are raised elsewhere ---

namespace detail {
bool valid_text(std::string_view id);
varlena* detoasted(varlena* value);
[[noreturn]] void refuse_null(const char* name, const char* hint);
[[noreturn]] void refuse_user_id(std::string_view id, const char* name);
[[noreturn]] void refuse_instant(TimestampTz time, const char* name);
}  // namespace detail

inline constexpr std::size_t kMaxUserId = 255;

inline bool valid_user_id(std::string_view id) {
    static const bool utf8 = GetDatabaseEncoding() == PG_UTF8;
    return !id.empty() && id.size() <= kMaxUserId && (utf8 || detail::valid_text(id));
}

inline void check_user_id(std::string_view id, const char* name) {
    if (!valid_user_id(id)) detail::refuse_user_id(id, name);
}

inline Instant check_instant(TimestampTz time, const char* name) {
    // Before it is shifted: far times overflow.
    if (time <= to_timestamp(0) || time >= to_timestamp(kEndOfTime)) detail::refuse_instant(time, name);
    return to_instant(time);
}

inline std::optional<std::string_view> Arguments::text(int i) const {
    if (is_null(i)) return std::nullopt;
    auto* value = reinterpret_cast<varlena*>(DatumGetPointer(fcinfo_->args[i].value));
    if (VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value)) value = detail::detoasted(value);
    return view_of(value);
}

inline Instant Arguments::instant(int i, const char* name) const {
    if (is_null(i)) detail::refuse_null(name, "Leave the argument out to mean now().");
    return check_instant(DatumGetTimestampTz(fcinfo_->args[i].value), name);
}

inline std::string_view Arguments::user_id(int i, const char* name) const {
    const auto id = text(i);
    if (!id) detail::refuse_null(name, "Pass the user's full id, such as @alice:example.com.");
    check_user_id(*id, name);
    return *id;
}

}  // namespace mau::pg
