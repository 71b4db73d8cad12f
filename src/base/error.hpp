// An error of ours, in PostgreSQL's terms but without PostgreSQL: pure modules throw it too.
#pragma once

#include "base/pure.hpp"

#include <stdexcept>
#include <string>
#include <utility>

namespace mau {

/// SQLSTATEs that we raise ourselves (PostgreSQL documentation, appendix A).
namespace sqlstate {
inline constexpr const char* invalid_parameter = "22023";
inline constexpr const char* datetime_out_of_range = "22008";
inline constexpr const char* untranslatable_character = "22021";
inline constexpr const char* no_data = "P0002";
inline constexpr const char* data_corrupted = "XX001";
inline constexpr const char* insufficient_privilege = "42501";
inline constexpr const char* undefined_schema = "3F000";
inline constexpr const char* undefined_table = "42P01";
inline constexpr const char* undefined_column = "42703";
inline constexpr const char* datatype_mismatch = "42804";
inline constexpr const char* object_not_in_prerequisite_state = "55000";
inline constexpr const char* unique_violation = "23505";
inline constexpr const char* lock_not_available = "55P03";
inline constexpr const char* serialization_failure = "40001";
inline constexpr const char* invalid_regular_expression = "2201B";
inline constexpr const char* trigger_protocol_violated = "39P01";
inline constexpr const char* internal_error = "XX000";
}  // namespace sqlstate

/// Carries SQLSTATE, message (lower case, no full stop), detail (the value) and hint (the fix) up to the
/// entry wrapper, which raises it as an ERROR.
class Error : public std::runtime_error {
  public:
    Error(const char* state, const std::string& message, std::string detail = {}, std::string hint = {})
        : std::runtime_error(message), state_(state), detail_(std::move(detail)), hint_(std::move(hint)) {}

    const char* state() const noexcept { return state_; }
    const std::string& detail() const noexcept { return detail_; }
    const std::string& hint() const noexcept { return hint_; }

  private:
    const char* state_;  // one of the literals above
    std::string detail_;
    std::string hint_;
};

/// The error for rows that a statement did not write, although nothing was in its way.
inline Error not_written(const std::string& table) {
    return {sqlstate::trigger_protocol_violated, "rows of " + table + " were not written",
            "A trigger keeps rows from being written.", "Drop the trigger."};
}

/// The error for rows that a statement did not delete, although nothing was in its way.
inline Error not_deleted(const std::string& table) {
    return {sqlstate::trigger_protocol_violated, "rows of " + table + " were not deleted",
            "A trigger keeps rows from being deleted.", "Drop the trigger."};
}

}  // namespace mau
