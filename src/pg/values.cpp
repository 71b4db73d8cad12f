#include "pg/values.hpp"

namespace mau::pg {

namespace {

std::string shorten(std::string_view text) {
    if (text.size() <= 60) return std::string(text);
    std::size_t length = 60;
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
    return std::string(text.substr(0, length)) + "…";
}

}  // namespace

std::string readable(const char* text) {
    std::string result = text;
    if (guard([&] { return pg_verifymbstr(text, static_cast<int>(std::strlen(text)), true); })) return result;
    for (char& c : result)
        if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    return result;
}

std::optional<bool> Arguments::boolean(int i) const {
    if (is_null(i)) return std::nullopt;
    return DatumGetBool(fcinfo_->args[i].value);
}

std::optional<std::int64_t> Arguments::integer(int i) const {
    if (is_null(i)) return std::nullopt;
    return DatumGetInt64(fcinfo_->args[i].value);
}

std::int64_t Arguments::max_rows(int i) const {
    const std::int64_t most = integer(i).value_or(PG_INT64_MAX);
    if (most <= 0)
        throw Error(sqlstate::invalid_parameter, "max_rows must be positive",
                    "It is " + std::to_string(most) + ".", "Leave the argument out to mean all.");
    return most;
}

std::string_view Arguments::required_text(int i, const char* name) const {
    if (auto value = text(i)) return *value;
    throw Error(sqlstate::invalid_parameter, std::string(name) + " must not be NULL", {},
                std::string("Pass the ") + name + ".");
}

std::optional<std::string_view> Arguments::name(int i, const char* name) const {
    const auto value = text(i);
    if (value && value->size() > kMaxUserId)
        throw Error(
            sqlstate::invalid_parameter, std::string(name) + " is too long",
            "It has " + std::to_string(value->size()) + " bytes and begins with \"" + shorten(*value) + "\".",
            "It has at most 255 bytes.");
    return value;
}

namespace detail {

bool valid_text(std::string_view id) {
    return guard([&] {
        return pg_verify_mbstr(PG_UTF8, id.data(), static_cast<int>(id.size()), true) &&
               std::memchr(id.data(), '\0', id.size()) == nullptr;
    });
}

varlena* detoasted(varlena* value) {
    return guard([&] { return pg_detoast_datum_packed(value); });
}

void refuse_null(const char* name, const char* hint) {
    throw Error(sqlstate::invalid_parameter, std::string(name) + " must not be NULL", {}, hint);
}

void refuse_user_id(std::string_view id, const char* name) {
    if (id.empty())
        throw Error(sqlstate::invalid_parameter, std::string(name) + " must not be empty", {},
                    "Pass the user's full id, such as @alice:example.com.");
    if (id.size() > kMaxUserId)
        throw Error(sqlstate::invalid_parameter, std::string(name) + " is too long",
                    "It has " + std::to_string(id.size()) + " bytes and begins with \"" + shorten(id) + "\".",
                    "A user id has at most 255 bytes.");
    throw Error(sqlstate::untranslatable_character, std::string(name) + " is not valid UTF-8", {},
                "Set client_encoding to what the client sends, and keep the database in UTF8.");
}

void refuse_instant(TimestampTz time, const char* name) {
    if (TIMESTAMP_NOT_FINITE(time))
        throw Error(sqlstate::datetime_out_of_range, std::string(name) + " must be a finite time",
                    std::string("It is ") + (TIMESTAMP_IS_NOBEGIN(time) ? "-infinity." : "infinity."),
                    "Leave the argument out to mean now().");
    throw Error(sqlstate::datetime_out_of_range, std::string(name) + " is out of range",
                "It is " + std::string(pg::guard([&] { return timestamptz_to_str(time); })) +
                    "; 1970 to 2999 (UTC) can be kept.",
                "to_timestamp() takes seconds: divide milliseconds by 1000.");
}

}  // namespace detail

Datum jsonb_datum(const std::string& json) {
    return guard([text = json.c_str()] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(text)); });
}

TriggerData* trigger_of(FunctionCallInfo fcinfo) {
    auto* const trigger =
        CALLED_AS_TRIGGER(fcinfo) ? reinterpret_cast<TriggerData*>(fcinfo->context) : nullptr;
    const char* const function = guard([&] { return get_func_name(fcinfo->flinfo->fn_oid); });
    if (!trigger)
        throw Error(sqlstate::trigger_protocol_violated,
                    std::string("mau.") + function + "() was not called by a trigger", {},
                    "It is there for the triggers on mau's own tables.");
    Oid const schema = guard([&] { return get_func_namespace(fcinfo->flinfo->fn_oid); });
    if (RelationGetNamespace(trigger->tg_relation) != schema)
        throw Error(sqlstate::trigger_protocol_violated,
                    std::string("mau.") + function + "() is for triggers on mau's own tables",
                    std::string("The table is \"") + RelationGetRelationName(trigger->tg_relation) + "\".",
                    "Drop that trigger.");
    return trigger;
}

ResultSet::ResultSet(FunctionCallInfo fcinfo, Shape shape) {
    guard([&] { InitMaterializedSRF(fcinfo, shape == Shape::column ? MAT_SRF_USE_EXPECTED_DESC : 0); });
    info_ = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
}

void ResultSet::add(std::initializer_list<Param> cells) {
    guard([&, first = cells.begin(), count = cells.size()] {
        constexpr std::size_t kMax = 32;
        Datum values[kMax];
        bool nulls[kMax];
        if (count > kMax || static_cast<int>(count) != info_->setDesc->natts)
            elog(ERROR, "mau: a row of %zu cells for %d columns", count, info_->setDesc->natts);
        for (std::size_t i = 0; i < count; ++i) {
            nulls[i] = first[i].is_null();
            values[i] = first[i].datum();
        }
        tuplestore_putvalues(info_->setResult, info_->setDesc, values, nulls);
    });
}

}  // namespace mau::pg
