// The SQL functions that report accounts and threepids.
#include "activity/registration.hpp"

#include "pg/locks.hpp"
#include "pg/values.hpp"

namespace mau {
namespace {

/// A threepid among the arguments; both parts are required.
struct ThreepidArgument {
    std::string_view medium, address;
};

void check_length(std::string_view medium, std::string_view address) {
    if (medium.size() <= 255 && address.size() <= 1024) return;
    throw Error(
        sqlstate::invalid_parameter, "medium or address is too long",
        "They have " + std::to_string(medium.size()) + " and " + std::to_string(address.size()) + " bytes.",
        "A medium has at most 255 bytes, an address 1024.");
}

ThreepidArgument threepid_of(const pg::Arguments& args, int i) {
    const ThreepidArgument threepid{args.required_text(i, "medium"), args.required_text(i + 1, "address")};
    if (threepid.medium.empty() || threepid.address.empty())
        throw Error(sqlstate::invalid_parameter, "medium and address must not be empty", {},
                    "Pass 'email' and an e-mail address, or 'msisdn' and a phone number.");
    check_length(threepid.medium, threepid.address);
    return threepid;
}

/// Carries a report out; raises 55P03 if it would have to wait for another transaction.
void try_to_carry_out(const Config& config, const deferred::Call& call, bool& answer) {
    if (!registration::can_carry_out(config, call))
        throw Error(sqlstate::lock_not_available, "another transaction holds rows that the report writes");
    answer = registration::carry_out(config, call);
}

/// Carries a report out, after the user's deferred reports. Does not wait: a report that would is rolled back
/// and deferred. Returns what `carry_out` returns, and `otherwise` for a deferred report.
bool report(const deferred::Call& call, bool otherwise) {
    if (RecoveryInProgress()) pg::guard([] { PreventCommandIfReadOnly("a report to mau"); });
    return pg::with_spi([&] {
        bool answer = otherwise;
        const auto trouble = pg::attempt(
            [&] {
                const pg::NoWaiting no_waiting;
                const auto config = config::try_config();
                if (!config) throw Error(sqlstate::lock_not_available, "the settings are locked");
                if (deferred::has_reports(call.user_id))
                    for (const deferred::Call& earlier : deferred::take_reports(call.user_id))
                        try_to_carry_out(*config, earlier, answer);
                if (deferred::has_reports(call.user_id))
                    throw Error(sqlstate::lock_not_available, "an earlier report is being carried out");
                try_to_carry_out(*config, call, answer);
            },
            pg::is_deferrable);
        if (!trouble) return answer;
        deferred::append({call});
        return otherwise;
    });
}

/// A report with a threepid, whose address is folded into `address`.
deferred::Call threepid_report(deferred::Function function, std::string_view user_id,
                               const ThreepidArgument& threepid, std::string& address) {
    address = config::fold_address(threepid.medium, threepid.address);
    check_length(threepid.medium, address);  // some letters take more bytes in lower case
    deferred::Call call;
    call.function = function;
    call.user_id = user_id;
    call.medium = threepid.medium;
    call.address = address;
    return call;
}

Datum register_user(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    deferred::Call call;
    call.function = deferred::Function::register_user;
    call.user_id = args.user_id(0);
    call.at = args.instant(1, "registered_at");
    call.user_type = args.name(2, "user_type");
    call.appservice_id = config::stored_appservice(args.name(3, "appservice_id"));
    call.is_guest = args.boolean(4);
    if (args.is_null(5) != args.is_null(6))
        throw Error(sqlstate::invalid_parameter, "medium and address must be given together", {},
                    "Pass both, or neither.");
    std::string address;
    if (!args.is_null(5)) {
        const deferred::Call with =
            threepid_report(call.function, call.user_id, threepid_of(args, 5), address);
        call.medium = with.medium;
        call.address = with.address;
    }
    return pg::text_datum(report(call, false) ? "joined" : "registered");
}

Datum add_threepid(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string_view user_id = args.user_id(0);
    std::string address;
    report(threepid_report(deferred::Function::add_threepid, user_id, threepid_of(args, 1), address), true);
    return Datum(0);
}

Datum remove_threepid(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string_view user_id = args.user_id(0);
    std::string address;
    return BoolGetDatum(report(
        threepid_report(deferred::Function::remove_threepid, user_id, threepid_of(args, 1), address), true));
}

Datum deactivate_user(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    deferred::Call call;
    call.function = deferred::Function::deactivate_user;
    call.user_id = args.user_id(0);
    args.instant(1);
    return BoolGetDatum(report(call, true));
}

Datum forget_user(FunctionCallInfo fcinfo) {
    const std::string_view user_id = pg::Arguments(fcinfo).user_id(0);
    const bool known = pg::with_spi([&] { return registration::forget(*config::config(), user_id); });
    return BoolGetDatum(known);
}

}  // namespace

MAU_FUNCTION(mau_register_user, register_user);
MAU_FUNCTION(mau_add_threepid, add_threepid);
MAU_FUNCTION(mau_remove_threepid, remove_threepid);
MAU_FUNCTION(mau_deactivate_user, deactivate_user);
MAU_FUNCTION(mau_forget_user, forget_user);

}  // namespace mau
