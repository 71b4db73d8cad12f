// The rules by which a user counts or is blocked. Pure functions of values.
//
// Recording (`judge_sighting`), blocking (`judge_request`) and `mau.explain` use the same rules; explain
// passes a Trace, which receives every rule in order. The rules are Synapse's: storage `monthly_active_users`
// for recording, `api.auth_blocking` for blocking; doc/reference.md cites them.
#pragma once

#include "base/pure.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "rules/calendar.hpp"

namespace mau {

/// The settings row (`mau.settings`), with Synapse's names and defaults.
struct Settings {
    bool limit_usage_by_mau = false;
    std::int64_t max_mau_value = 0;
    bool mau_stats_only = true;
    std::int64_t mau_trial_days = 0;
    bool mau_limit_alerting = true;
    std::int64_t limit_warning_percent = 90;
    bool track_appservice_user_ips = false;
    bool hs_disabled = false;
    bool count_deactivated_users = true;
    bool count_locked_users = true;
    Instant last_seen_granularity = 3'600'000;  // milliseconds
    std::optional<std::string> admin_contact;
    std::optional<std::string> hs_disabled_message;
    std::optional<std::string> server_notices_mxid;
    std::optional<std::string> server_name;
};

/// A user's account as far as it is known.
struct Account {
    bool registered = false;  // false: seen, but never registered with us
    std::optional<Instant> registered_at;
    bool guest = false;
    bool support = false;
    bool deactivated = false;
    bool locked = false;
    std::string_view appservice;                        // empty: native
    std::optional<std::int64_t> appservice_trial_days;  // of that appservice, where it has its own
};

/// A user's membership in the cohort.
struct Membership {
    std::optional<Instant> last_seen;  // nothing: no row
    bool reserved = false;             // a registered reserved user: the seat is held for ever

    /// Whether the user is in the cohort at an instant: seen within 30 days, to the millisecond, or reserved.
    bool holds(Instant at) const { return last_seen && (reserved || *last_seen >= at - kWindow); }
};

/// The outcome of a sighting.
enum class Outcome {
    joined,
    refreshed,
    unchanged,
    guest,
    trial,
    support,
    appservice,
    deactivated,
    locked,
    remote,
    full,
    off,
};
inline constexpr int kOutcomes = 12;

/// The outcome's name as the SQL functions return it.
const char* name(Outcome outcome);

/// Receives each rule that is evaluated: its name, whether it holds, and the facts in words.
class Trace {
  public:
    virtual ~Trace() = default;
    virtual void rule(const char* name, bool holds, const std::string& detail) = 0;
};

/// Returns the outcome of a sighting of the user at `at`, without the question whether a seat is free:
/// `joined` means "joins if there is a seat" (see `needs_seat`). Rules in the order of Synapse's
/// populate_monthly_active_users and upsert_monthly_active_user; the first that holds decides.
Outcome judge_sighting(const Settings& settings, std::string_view user_id, const Account& account,
                       const Membership& membership, Instant at, Trace* trace = nullptr);

/// Whether anything is recorded at all.
inline bool recording(const Settings& settings) {
    return settings.limit_usage_by_mau || settings.mau_stats_only;
}

/// Whether joining takes a seat: appservice users take none, registered reserved users hold theirs already.
bool takes_seat(const Account& account, const Membership& membership);

/// Whether joining takes one of the seats that `max_mau_value` limits.
bool needs_seat(const Settings& settings, const Account& account, const Membership& membership);

/// Whether the account counts against the limit once it is a member.
inline bool counted(const Account& account) {
    return account.appservice.empty();
}

/// Whether the account is on trial: younger than the trial of its appservice, else than `mau_trial_days`.
/// An account without a registration is never on trial.
bool on_trial(const Settings& settings, const Account& account, Instant at);

/// The host in a user's id: of @local:host what follows the first colon, of a JID local@host what follows the
/// at sign, up to the resource; empty where there is none.
std::string_view host_of(std::string_view user_id);

/// Whether the id can be a user of this server: with `server_name` set, only `@…:server_name` and the JIDs
/// `…@server_name` are.
bool is_local(const Settings& settings, std::string_view user_id);

/// A user's request, or a registration (no user), perhaps with a threepid or user type.
struct Request {
    std::optional<std::string_view> user_id;
    bool threepid_given = false;
    bool threepid_reserved = false;  // in the list of reserved threepids, at any position
    std::optional<std::string_view> user_type;
    bool by_appservice = false;  // the request carries an appservice's token
};

/// The answer to a request: goes ahead, blocked by hs_disabled, or blocked if the server is full.
enum class Gate { open, disabled, if_seat };

/// Returns whether a request may go ahead; the first rule that holds decides. A user of an appservice is
/// treated as acting through it, even if the caller does not say so. `if_seat` leaves the comparison of the
/// count with the maximum to the caller, because the count costs a query.
Gate judge_request(const Settings& settings, const Request& request, const Account& account,
                   const Membership& membership, Instant at, Trace* trace = nullptr);

/// Whether the server is full.
inline bool full(const Settings& settings, std::int64_t count) {
    return count >= settings.max_mau_value;
}

/// The error body of a blocked request as JSON text: exactly the four keys that Synapse sends with HTTP 403.
std::string error_body(const Settings& settings, Gate gate);

/// A number of milliseconds in words, such as "2 d 3 h".
std::string in_words(Instant duration);

}  // namespace mau
