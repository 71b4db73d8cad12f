#include "worker/slots.hpp"

#include <algorithm>

#include "pg/shmem.hpp"

namespace mau::worker {

namespace {

constexpr int kLongestWait = 3600;  // seconds, for one whose ticks fail

struct Shared {
    LWLock lock;
    pid_t launcher_pid;
    Latch* launcher_latch;  // in shared memory, so good in every process
    bool launched;          // since the server started
    Slot slots[pg::kMaxDatabases];
    Figures figures[pg::kMaxDatabases];  // of the slot with the same index
};

pg::SharedPiece piece(
    "mau worker", [] { return sizeof(Shared); },
    [](void* memory) { LWLockInitialize(&static_cast<Shared*>(memory)->lock, LWLockNewTrancheId()); });

Slot* find(Shared* shared, Oid database) {
    for (Slot& slot : shared->slots)
        if (slot.database == database) return &slot;
    return nullptr;
}

Figures& figures_of(Shared* shared, const Slot& slot) {
    return shared->figures[&slot - shared->slots];
}

/// The database's slot, made if there is room.
Slot* claim(Shared* shared, Oid database) {
    Slot* slot = find(shared, database);
    if (slot) return slot;
    slot = find(shared, InvalidOid);
    if (!slot) return nullptr;
    slot->database = database;
    figures_of(shared, *slot) = Figures{};
    return slot;
}

/// Runs `change` on the database's slot, if it has one, under the lock.
template <class Change>
void with_slot(Oid database, Change change) {
    auto* shared = piece.get<Shared>();
    if (!shared) return;
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    if (Slot* slot = find(shared, database)) change(*slot);
    LWLockRelease(&shared->lock);
}

void set_error(Slot& slot, const char* state, const char* message) {
    strlcpy(slot.error_state, state, sizeof slot.error_state);
    strlcpy(slot.error, message, sizeof slot.error);
}

void leave_post(int, Datum) {
    auto* shared = piece.get<Shared>();
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    if (shared->launcher_pid == MyProcPid) {
        shared->launcher_pid = 0;
        shared->launcher_latch = nullptr;
    }
    LWLockRelease(&shared->lock);
}

}  // namespace

const char* name(Extension extension) {
    switch (extension) {
        case Extension::unknown:
            return "unknown";
        case Extension::absent:
            return "absent";
        case Extension::present:
            return "present";
        case Extension::other_version:
            return "other version";
        case Extension::restoring:
            return "restoring";
        case Extension::paused:
            return "paused";
    }
    return "unknown";
}

TimestampTz due(const Slot& slot) {
    if (slot.started == 0) return 0;
    if (slot.woken || slot.more) return slot.finished;
    int wait = options.tick_interval;
    if (slot.lost > 0)
        wait = std::min(kLongestWait, options.tick_interval << std::min(slot.lost, 12));
    else if (slot.extension == Extension::other_version)
        wait = kAskAgain;
    const TimestampTz regular = slot.started + wait * USECS_PER_SEC;
    if (slot.extension != Extension::present || slot.lost > 0) return regular;
    constexpr TimestampTz kBeforeMidnight = 5 * USECS_PER_SEC;
    const TimestampTz end_of_day = (slot.started / USECS_PER_DAY + 1) * USECS_PER_DAY - kBeforeMidnight;
    return slot.started < end_of_day ? std::min(regular, end_of_day) : regular;
}

namespace slots {

State state(Oid database) {
    State state = {};
    auto* shared = piece.get<Shared>();
    if (!shared) return state;
    state.exists = true;
    LWLockAcquire(&shared->lock, LW_SHARED);
    if (const Slot* slot = find(shared, database))
        state.slot = *slot;
    else
        state.is_left_out = !find(shared, InvalidOid);
    state.launched = shared->launched;
    state.launcher = shared->launcher_pid;
    LWLockRelease(&shared->lock);
    return state;
}

int members(Member* members) {
    auto* shared = piece.get<Shared>();
    if (!shared) return 0;
    int count = 0;
    LWLockAcquire(&shared->lock, LW_SHARED);
    for (const Slot& slot : shared->slots)
        if (OidIsValid(slot.database)) members[count++] = {slot, figures_of(shared, slot)};
    LWLockRelease(&shared->lock);
    return count;
}

int long_ticks(TimestampTz now, Oid* databases, TimestampTz* started, int most) {
    auto* shared = piece.get<Shared>();
    if (!shared) return 0;
    int count = 0;
    LWLockAcquire(&shared->lock, LW_SHARED);
    for (const Slot& slot : shared->slots) {
        if (!slot.running || now - slot.started < kLongTick || count == most) continue;
        databases[count] = slot.database;
        started[count++] = slot.started;
    }
    LWLockRelease(&shared->lock);
    return count;
}

void wake(Oid database) {
    auto* shared = piece.get<Shared>();
    if (!shared) return;
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    if (Slot* slot = claim(shared, database)) slot->woken = true;
    if (shared->launcher_latch) SetLatch(shared->launcher_latch);
    LWLockRelease(&shared->lock);
}

void become_launcher() {
    auto* shared = piece.get<Shared>();
    before_shmem_exit(leave_post, 0);
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    shared->launcher_pid = MyProcPid;
    shared->launcher_latch = MyLatch;
    shared->launched = true;
    // The last launcher may have ended during a tick.
    for (Slot& slot : shared->slots) slot.running = false;
    LWLockRelease(&shared->lock);
}

int keep(Oid* databases, int count) {
    auto* shared = piece.get<Shared>();
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    for (Slot& slot : shared->slots)
        if (OidIsValid(slot.database) &&
            std::find(databases, databases + count, slot.database) == databases + count)
            slot = Slot{};
    Oid* const with_slot =
        std::partition(databases, databases + count, [&](Oid each) { return !find(shared, each); });
    LWLockRelease(&shared->lock);
    return static_cast<int>(with_slot - databases);
}

Oid most_due(TimestampTz now, TimestampTz* next, bool (*is_running)(Oid database)) {
    auto* shared = piece.get<Shared>();
    const Slot* first = nullptr;
    *next = DT_NOEND;
    LWLockAcquire(&shared->lock, LW_SHARED);
    for (const Slot& slot : shared->slots) {
        if (!OidIsValid(slot.database) || slot.running || is_running(slot.database)) continue;
        // A start in the future means that the clock was set back; the tick is due now.
        const TimestampTz when = slot.started > now ? now : due(slot);
        if (first && when >= *next) continue;
        first = &slot;
        *next = when;
    }
    Oid const database = first && *next <= now ? first->database : InvalidOid;
    LWLockRelease(&shared->lock);
    return database;
}

void begin(Oid database) {
    with_slot(database, [](Slot& slot) {
        slot.started = GetCurrentTimestamp();
        slot.urgent = slot.woken;
        slot.woken = slot.more = slot.reported = false;
        slot.running = true;
    });
}

void end(Oid database, const char* reason) {
    with_slot(database, [=](Slot& slot) {
        if (!slot.running) return;
        slot.running = false;
        if (slot.reported) return;
        slot.finished = GetCurrentTimestamp();
        ++slot.lost;
        set_error(slot, "57P02", reason);
    });
}

bool enter(Oid database) {
    auto* shared = piece.get<Shared>();
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    Slot* slot = claim(shared, database);
    if (slot && !slot->running) {  // also where wake() has claimed it during this tick
        slot->started = GetCurrentTimestamp();
        slot->running = true;
    }
    LWLockRelease(&shared->lock);
    return slot != nullptr;
}

void note(Oid database, Extension extension, const char* error_state, const char* error) {
    with_slot(database, [&](Slot& slot) {
        slot.extension = extension;
        slot.finished = GetCurrentTimestamp();
        set_error(slot, error_state, error);
    });
}

Figures published(Oid database) {
    Figures figures = {};
    with_slot(database, [&](Slot& slot) { figures = figures_of(piece.get<Shared>(), slot); });
    return figures;
}

void publish(Oid database, const Figures& figures) {
    with_slot(database, [&](Slot& slot) { figures_of(piece.get<Shared>(), slot) = figures; });
}

void publish_failure(Oid database, const char* reason) {
    with_slot(database, [&](Slot& slot) {
        Figures& figures = figures_of(piece.get<Shared>(), slot);
        strlcpy(figures.health, "failing", sizeof figures.health);
        strlcpy(figures.reason, reason, sizeof figures.reason);
    });
}

void report(Oid database, Extension extension, bool more, const char* error_state, const char* error) {
    with_slot(database, [&](Slot& slot) {
        if (extension == Extension::absent && !slot.woken) {
            slot = Slot{};
            return;
        }
        slot.extension = extension;
        slot.more = more;
        slot.reported = true;
        slot.lost = 0;
        slot.finished = GetCurrentTimestamp();
        set_error(slot, error_state, error);
    });
}

}  // namespace slots
}  // namespace mau::worker
