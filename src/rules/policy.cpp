#define MAU_PURE_SOURCE
#include "rules/policy.hpp"

#include "rules/json.hpp"

namespace mau {

namespace {

/// Evaluates one rule: reports it to the trace, and returns whether it holds. The detail is made only for a
/// trace.
template <class Detail>
bool asks(Trace* trace, const char* rule, bool holds, Detail&& detail) {
    if (trace) trace->rule(rule, holds, detail());
    return holds;
}

std::string quoted(const std::optional<std::string>& value) {
    return value ? "\"" + *value + "\"" : "not set";
}

std::int64_t trial_days(const Settings& settings, const Account& account) {
    return account.appservice_trial_days.value_or(settings.mau_trial_days);
}

std::string trial_in_words(const Settings& settings, const Account& account, Instant at) {
    const std::string days = std::to_string(trial_days(settings, account)) + " trial days";
    if (!account.registered_at) return days + "; registration unknown";
    return days + "; registered " + in_words(at - *account.registered_at) + " before";
}

std::string membership_in_words(const Membership& membership, Instant at) {
    if (!membership.last_seen)
        return membership.reserved ? "reserved, no row in the cohort yet" : "no row in the cohort";
    std::string text = *membership.last_seen == 0
                           ? "never seen"
                           : "last seen " + in_words(at - *membership.last_seen) + " before";
    if (membership.reserved) return text + "; reserved, the seat is held for ever";
    if (!membership.holds(at)) return text + ": expired";
    return text + "; expires in " + in_words(*membership.last_seen + kWindow - at);
}

void append_json_or_null(std::string& to, const std::optional<std::string>& text) {
    if (text)
        append_json(to, *text);
    else
        to += "null";
}

}  // namespace

const char* name(Outcome outcome) {
    static constexpr const char* kNames[kOutcomes] = {"joined", "refreshed", "unchanged",  "guest",
                                                      "trial",  "support",   "appservice", "deactivated",
                                                      "locked", "remote",    "full",       "off"};
    return kNames[static_cast<int>(outcome)];
}

std::string_view host_of(std::string_view user_id) {
    const bool matrix = !user_id.empty() && user_id.front() == '@';
    const std::size_t mark = user_id.find(matrix ? ':' : '@');
    if (mark == std::string_view::npos) return {};
    const std::string_view host = user_id.substr(mark + 1);
    return matrix ? host : host.substr(0, host.find('/'));
}

bool is_local(const Settings& settings, std::string_view user_id) {
    if (!settings.server_name) return true;
    const std::size_t local = !user_id.empty() && user_id.front() == '@' ? 1 : 0;
    const bool named = user_id.size() > local && user_id[local] != (local == 1 ? ':' : '@');
    return named && host_of(user_id) == *settings.server_name;
}

bool on_trial(const Settings& settings, const Account& account, Instant at) {
    const std::int64_t days = trial_days(settings, account);
    return account.registered && account.registered_at && days > 0 &&
           at - *account.registered_at < days * kDay;
}

bool takes_seat(const Account& account, const Membership& membership) {
    return counted(account) && !membership.reserved;
}

bool needs_seat(const Settings& settings, const Account& account, const Membership& membership) {
    return settings.limit_usage_by_mau && takes_seat(account, membership);
}

Outcome judge_sighting(const Settings& settings, std::string_view user_id, const Account& account,
                       const Membership& membership, Instant at, Trace* trace) {
    if (asks(trace, "recording is off", !recording(settings), [&] {
            return std::string("limit_usage_by_mau ") + (settings.limit_usage_by_mau ? "on" : "off") +
                   ", mau_stats_only " + (settings.mau_stats_only ? "on" : "off");
        }))
        return Outcome::off;
    if (asks(trace, "user of another server", !is_local(settings, user_id),
             [&] { return "server_name is " + quoted(settings.server_name); }))
        return Outcome::remote;
    if (asks(trace, "untracked appservice user",
             !account.appservice.empty() && !settings.track_appservice_user_ips, [&] {
                 return account.appservice.empty() ? std::string("native user")
                                                   : "appservice " + std::string(account.appservice) +
                                                         ", track_appservice_user_ips " +
                                                         (settings.track_appservice_user_ips ? "on" : "off");
             }))
        return Outcome::appservice;
    if (asks(trace, "guest", account.guest, [&] { return account.guest ? "a guest" : "not a guest"; }))
        return Outcome::guest;
    if (asks(trace, "on trial", on_trial(settings, account, at),
             [&] { return trial_in_words(settings, account, at); }))
        return Outcome::trial;
    if (asks(trace, "support user", account.support,
             [&] { return account.support ? "user type support" : "not a support user"; }))
        return Outcome::support;
    if (asks(trace, "deactivated user", account.deactivated && !settings.count_deactivated_users, [&] {
            return std::string(account.deactivated ? "deactivated" : "not deactivated") +
                   ", count_deactivated_users " + (settings.count_deactivated_users ? "on" : "off");
        }))
        return Outcome::deactivated;
    if (asks(trace, "locked user", account.locked && !settings.count_locked_users, [&] {
            return std::string(account.locked ? "locked" : "not locked") + ", count_locked_users " +
                   (settings.count_locked_users ? "on" : "off");
        }))
        return Outcome::locked;
    if (asks(trace, "member of the cohort", membership.holds(at),
             [&] { return membership_in_words(membership, at); })) {
        const bool fresh = at - *membership.last_seen <= settings.last_seen_granularity;
        asks(trace, "seen within the granularity", fresh,
             [&] { return "last_seen_granularity is " + in_words(settings.last_seen_granularity); });
        return fresh ? Outcome::unchanged : Outcome::refreshed;
    }
    return Outcome::joined;
}

Gate judge_request(const Settings& settings, const Request& request, const Account& account,
                   const Membership& membership, Instant at, Trace* trace) {
    const bool is_user = request.user_id.has_value();
    if (asks(trace, "request of an untracked appservice",
             (request.by_appservice || !account.appservice.empty()) && !settings.track_appservice_user_ips,
             [&] {
                 return std::string(request.by_appservice        ? "by an appservice's token"
                                    : account.appservice.empty() ? "native user"
                                                                 : "an appservice's user") +
                        ", track_appservice_user_ips " + (settings.track_appservice_user_ips ? "on" : "off");
             }))
        return Gate::open;
    if (asks(trace, "server notices user",
             is_user && settings.server_notices_mxid && *request.user_id == *settings.server_notices_mxid,
             [&] { return "server_notices_mxid is " + quoted(settings.server_notices_mxid); }))
        return Gate::open;
    if (asks(trace, "support user goes ahead", is_user && account.support,
             [&] { return account.support ? "user type support" : "not a support user"; }))
        return Gate::open;
    if (asks(trace, "server is disabled", settings.hs_disabled,
             [&] { return std::string("hs_disabled ") + (settings.hs_disabled ? "on" : "off"); }))
        return Gate::disabled;
    if (asks(trace, "no limit", !settings.limit_usage_by_mau, [&] {
            return std::string("limit_usage_by_mau ") + (settings.limit_usage_by_mau ? "on" : "off");
        }))
        return Gate::open;
    if (is_user) {
        if (asks(trace, "member goes ahead", membership.reserved || membership.holds(at),
                 [&] { return membership_in_words(membership, at); }))
            return Gate::open;
        if (asks(trace, "trial user goes ahead", on_trial(settings, account, at),
                 [&] { return trial_in_words(settings, account, at); }))
            return Gate::open;
    } else if (request.threepid_given) {
        if (asks(trace, "reserved threepid goes ahead", request.threepid_reserved,
                 [&] { return request.threepid_reserved ? "reserved" : "not reserved"; }))
            return Gate::open;
    } else if (asks(trace, "new support user goes ahead", request.user_type == "support",
                    [&] { return request.user_type ? std::string(*request.user_type) : "no user type"; })) {
        return Gate::open;
    }
    return Gate::if_seat;
}

std::string error_body(const Settings& settings, Gate gate) {
    const bool disabled = gate == Gate::disabled;
    std::string body = R"({"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": )";
    if (disabled)
        append_json_or_null(body, settings.hs_disabled_message);
    else
        append_json(body, "Monthly Active User Limit Exceeded");
    body += R"(, "admin_contact": )";
    append_json_or_null(body, settings.admin_contact);
    body += R"(, "limit_type": ")";
    body += disabled ? "hs_disabled" : "monthly_active_user";
    body += "\"}";
    return body;
}

std::string in_words(Instant duration) {
    if (duration < 0) return "-" + in_words(-duration);
    struct Unit {
        Instant length;
        const char* name;
    };
    static constexpr Unit kUnits[] = {{kDay, "d"}, {3'600'000, "h"}, {60'000, "min"}, {1000, "s"}, {1, "ms"}};
    std::string words;
    int parts = 0;
    for (const Unit& unit : kUnits) {
        const Instant n = duration / unit.length;
        duration %= unit.length;
        if (n == 0) continue;
        if (parts++ > 0) words += ' ';
        words += std::to_string(n) + ' ' + unit.name;
        if (parts == 2) break;
    }
    return parts ? words : "0 s";
}

}  // namespace mau
