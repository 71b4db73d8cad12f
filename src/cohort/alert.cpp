#include "rules/limit.hpp"

#include "cohort/alert.hpp"

#include <algorithm>
#include <limits>

#include "cohort/cohort.hpp"
#include "cohort/leaving.hpp"
#include "pg/locks.hpp"
#include "pg/values.hpp"
#include "seats/seats.hpp"

namespace mau::cohort {

namespace {

constexpr const char* kChannel = "mau_limit";
constexpr double kQueueIsFull = 0.9;  // of the server's queue of notifications

pg::Statement told_query("SELECT l.state FROM mau.limit_state l");
pg::Statement tell_first_query(
    "INSERT INTO mau.limit_state (state, users, max, at) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (singleton) DO NOTHING",
    {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID});
pg::Statement tell_query(
    "WITH t AS (SELECT k.singleton FROM mau.limit_state k WHERE k.state = $5 FOR UPDATE SKIP LOCKED)"
    " UPDATE mau.limit_state l SET state = $1, users = $2, max = $3, at = $4 FROM t"
    " WHERE l.singleton = t.singleton",
    {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID});
pg::Statement forget_query("DELETE FROM mau.limit_state");

/// What a transaction noted about the limit; the state is checked before its commit.
struct Note {
    bool any;
    AlertCause cause;
    Instant at;
    std::optional<std::int64_t> counted;  // the members, those in flight included; of several joins, the last
    std::uint64_t thresholds;
    Oid user;  // the caller's rights: by the commit a SECURITY DEFINER function may have ended
    int context;
};
Note note;

/// When to look again, noted at commit.
struct NextLook {
    bool known;
    std::int64_t joined;
    std::optional<std::int64_t> more;
};
NextLook next_look;

/// A number that changes with what the next look depends on.
std::uint64_t thresholds_of(const Config& config) {
    const std::int64_t facts[] = {config.generation, std::int64_t{config.cohort_table},
                                  config.settings.max_mau_value, config.settings.limit_warning_percent};
    return pg::hash({reinterpret_cast<const char*>(facts), sizeof facts});
}

/// Whether the commit will wait for no other session's NOTIFY, and there is room for ours.
bool can_notify() {
    return pg::try_notify_lock() && pg::guard([] {
               return DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, Datum(0))) <
                      kQueueIsFull;
           });
}

/// Notes the change in the table, and tells of it. Returns false where another session is at it.
bool tell(const Settings& settings, const LimitChange& change, bool is_first) {
    if (!can_notify()) return false;
    const std::int64_t at = pg::to_timestamp(change.at);
    const std::int64_t rows =
        is_first
            ? tell_first_query.write(name(change.state), change.users, settings.max_mau_value, at).count
            : tell_query
                  .write(name(change.state), change.users, settings.max_mau_value, at, name(change.before))
                  .count;
    if (rows == 0) return false;
    const char* const database = pg::guard([] { return get_database_name(MyDatabaseId); });
    const std::string payload = alert_payload(settings, change, database);
    pg::guard([text = payload.c_str()] { Async_Notify(kChannel, text); });
    return true;
}

/// How many members there are at most, if that is known: since they were counted, another one may have joined
/// in each session.
std::int64_t most_members() {
    return note.counted ? *note.counted + MaxBackends : std::numeric_limits<std::int64_t>::max();
}

/// Compares the state with the one that was told last.
void look() {
    const auto held = config::try_config();
    if (!held || !pg::try_own_table_lock("limit_state", RowExclusiveLock)) return;
    const Config& config = *held;
    if (!alerting(config.settings)) {
        if (note.cause == AlertCause::task) forget_query.write();
        return;
    }
    const pg::Rows row = told_query.read_latest();
    LimitState told = row.empty() ? LimitState::free : limit_state_called(row.at(0, 0).text());
    const auto counted = seats::at_commit(config);
    std::int64_t users = counted ? counted->rows : most_members();
    const bool was_full = note.cause == AlertCause::refused && told != LimitState::full;
    if (note.cause == AlertCause::task || was_full || limit_state(config.settings, users) > told) {
        users = counted ? counted->rows - count_expired_natives(config, note.at, seats::Purpose::decision)
                        : count_now(config, note.at);
        const LimitState state = limit_state(config.settings, users);
        if (state > told || (state < told && note.cause == AlertCause::task)) {
            if (!tell(config.settings, {told, state, users, note.at}, row.empty())) return;
            told = state;
        }
    }
    if (!counted || note.thresholds != thresholds_of(config)) return;
    const auto above = users_above(config.settings, told);
    next_look = {true, counted->joined, above ? std::optional(*above - users) : std::nullopt};
}

void before_commit() {
    const bool may_rise = seats::begin_commit(note.thresholds, note.cause == AlertCause::refused);
    if (!may_rise && note.cause != AlertCause::task) return;
    // In SERIALIZABLE, what is read here could make the commit fail.
    if (XactReadOnly || RecoveryInProgress() || IsolationIsSerializable() || IsInParallelMode()) return;
    Oid user = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(note.user, note.context);
    MemoryContext const memory = MemoryContextSwitchTo(TopTransactionContext);
    const auto trouble = pg::attempt([] {
        const pg::NoWaiting no_waiting;
        pg::with_spi([] { look(); });
    });
    MemoryContextSwitchTo(memory);
    SetUserIdAndSecContext(user, context);
    if (!trouble) return;
    next_look.known = false;
    if (note.cause != AlertCause::task || pg::is_interference(*trouble)) return;
    pg::guard([message = trouble->message.c_str()] {
        ereport(LOG, (errmsg("mau could not tell the state of the limit: %s", message)));
    });
}

void on_transaction(XactEvent event, void*) {
    if (!note.any) return;
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
            pg::enter([] { before_commit(); });
            break;
        case XACT_EVENT_COMMIT:
            if (next_look.known) seats::look_after(note.thresholds, next_look.joined, next_look.more);
            [[fallthrough]];
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:
            note.any = next_look.known = false;
            break;
        default:
            break;
    }
}

}  // namespace

void init_alerts() {
    pg::guard([] { RegisterXactCallback(on_transaction, nullptr); });
}

void look_at_limit(const Config& config, Instant at, AlertCause cause, std::optional<std::int64_t> counted) {
    if (cause != AlertCause::task && !alerting(config.settings)) return;
    note.cause = note.any ? std::max(note.cause, cause) : cause;
    note.at = note.any ? std::max(note.at, at) : at;
    note.counted = counted;
    note.thresholds = thresholds_of(config);
    GetUserIdAndSecContext(&note.user, &note.context);
    note.any = true;
}

}  // namespace mau::cohort
