#include "cache/cache.hpp"

#include "pg/shmem.hpp"
#include "pg/values.hpp"

namespace mau::cache {

namespace {

int size_kb = 24576;

constexpr std::size_t kEntries = 7;         // in a set
constexpr std::size_t kMaxPending = 65536;  // entries that one transaction keeps for its commit
constexpr std::uint32_t kFlush = 64;        // calls after which a session adds up its figures

/// The entries of the users whose hash chooses this set, in two cache lines, which processors fetch together.
struct alignas(128) Set {
    pg_atomic_uint32 generation;  // of these users
    pg_atomic_uint64 checks[kEntries];
    pg_atomic_uint64 spans[kEntries];
};
static_assert(sizeof(Set) == 128);

/// When nothing changes, and for which clients, in one word: from an instant on (45 bits, up to the year
/// 3084) for so many steps of 8.192 s (14 bits, up to a day and more).
class Span {
  public:
    Span() = default;
    explicit Span(std::uint64_t word) : word_(word) {}
    Span(Instant from, Instant until, unsigned clients)
        : word_(static_cast<std::uint64_t>(from) << 19 |
                static_cast<std::uint64_t>((until - from) >> kStep) << kClients | clients) {}
    std::uint64_t word() const { return word_; }
    Instant from() const { return static_cast<Instant>(word_ >> 19); }
    Instant until() const {
        return from() + static_cast<Instant>(word_ >> kClients & ((1U << 14) - 1)) * (1 << kStep);
    }
    unsigned clients() const { return static_cast<unsigned>(word_) & ((1U << kClients) - 1); }
    void add_clients(unsigned clients) { word_ |= clients; }

  private:
    static constexpr int kStep = 13, kClients = 5;
    std::uint64_t word_ = 0;
};
static_assert((kDay >> 13) < 1 << 14);

struct Shared {
    pg_atomic_uint32 database_generation[pg::kMaxDatabases];
    pg_atomic_uint32 settings_generation[pg::kMaxDatabases];
    pg_atomic_uint64 version[pg::kMaxDatabases];  // of the triggers; 0: not known yet
    std::uint64_t sets;
    std::uint64_t seeds[2];
    pg_atomic_uint64 hits, misses;

    Set* set() { return reinterpret_cast<Set*>(TYPEALIGN(alignof(Set), this + 1)); }
};

std::size_t bytes() {
    return static_cast<std::size_t>(size_kb) * 1024;
}

pg::SharedPiece piece("mau recently seen", bytes, [](void* memory) {
    auto* shared = static_cast<Shared*>(memory);
    if (!pg_strong_random(shared->seeds, sizeof shared->seeds))
        elog(ERROR, "mau: no random numbers to be had for the recently seen cache");
    shared->sets = (bytes() - sizeof(Shared)) / sizeof(Set) - 1;
    // Generation 0 is not used.
    for (auto& generation : shared->database_generation) pg_atomic_init_u32(&generation, 1);
    for (auto& generation : shared->settings_generation) pg_atomic_init_u32(&generation, 1);
    for (auto& version : shared->version) pg_atomic_init_u64(&version, 0);
    pg_atomic_init_u64(&shared->hits, 0);
    pg_atomic_init_u64(&shared->misses, 0);
    for (std::uint64_t i = 0; i < shared->sets; ++i) {
        Set& set = shared->set()[i];
        pg_atomic_init_u32(&set.generation, 0);
        for (auto& check : set.checks) pg_atomic_init_u64(&check, 0);
        for (auto& span : set.spans) pg_atomic_init_u64(&span, 0);
    }
});

/// The state that a session needs at every call, close together in memory.
struct alignas(64) Session {
    Shared* shared = nullptr;
    Set* set = nullptr;
    std::uint64_t sets = 0;
    pg_atomic_uint32* generation = nullptr;  // the database's
    pg_atomic_uint32* settings_generation = nullptr;
    pg_atomic_uint64* version = nullptr;
    std::uint64_t seeds[2];
    bool has_changes = false;            // that will invalidate something at commit
    bool is_suspect = true;              // the triggers' version has to be compared first
    std::uint32_t hits = 0, misses = 0;  // not added to the shared figures yet
};
Session session;

/// Whether the session has the cache.
bool attached() {
    if (session.shared) return true;
    auto* const shared = piece.get<Shared>();
    int const database = shared ? pg::database_number() : -1;
    if (database < 0) return false;
    session.set = shared->set();
    session.sets = shared->sets;
    session.generation = &shared->database_generation[database];
    session.settings_generation = &shared->settings_generation[database];
    session.version = &shared->version[database];
    for (int i = 0; i < 2; ++i) session.seeds[i] = shared->seeds[i] + static_cast<std::uint64_t>(database);
    session.shared = shared;
    return true;
}

Set& set_of(const Key& key) {
    __extension__ using Product = unsigned __int128;
    return session.set[static_cast<Product>(key.first) * session.sets >> 64];
}

std::uint64_t rotate(std::uint64_t word, int by) {
    return (word << by) | (word >> (64 - by));
}

/// The check word of an entry, made of the user, the generation and the span. A half-written entry, or one of
/// an earlier generation, does not match.
std::uint64_t check_of(const Key& key, Span span) {
    return key.second ^ rotate(key.generation, 19) ^ rotate(span.word(), 41);
}

/// The user's entry in its set; an empty span where there is none.
struct Entry {
    std::size_t i = kEntries;
    Span span;
};
Entry find(Set& set, const Key& key) {
    for (std::size_t i = 0; i < kEntries; ++i) {
        const Span span(pg_atomic_read_u64(&set.spans[i]));
        if (pg_atomic_read_u64(&set.checks[i]) == check_of(key, span)) return {i, span};
    }
    return {};
}

// --- Changes that this transaction writes at commit ---

struct Pending {
    Key key;
    Span span;
};
std::vector<Pending> to_remember;
std::vector<Key> to_invalidate;
bool all_to_invalidate = false, settings_to_invalidate = false;

/// Writes an entry over the user's own, or else over the one that ends first.
void write(const Pending& pending) {
    Set& set = set_of(pending.key);
    Span span = pending.span;
    Entry entry = find(set, pending.key);
    if (entry.i < kEntries) {
        // The day's other clients stay marked.
        if (entry.span.from() / kDay == span.from() / kDay) span.add_clients(entry.span.clients());
    } else {
        Key before = pending.key;  // the user's own entry that one invalidation has made useless
        --before.generation;
        entry.i = find(set, before).i;
    }
    if (entry.i == kEntries) {
        Instant first = INT64_MAX;
        for (std::size_t i = 0; i < kEntries; ++i) {
            const Instant ends = Span(pg_atomic_read_u64(&set.spans[i])).until();
            if (ends >= first) continue;
            first = ends;
            entry.i = i;
        }
    }
    pg_atomic_write_u64(&set.checks[entry.i], 0);
    pg_atomic_write_u64(&set.spans[entry.i], span.word());
    pg_atomic_write_u64(&set.checks[entry.i], check_of(pending.key, span));
}

void forget_pending() {
    to_remember.clear();
    to_invalidate.clear();
    all_to_invalidate = settings_to_invalidate = session.has_changes = false;
}

void on_transaction(XactEvent event, void*) {
    // COMMIT PREPARED would not raise the generations.
    if (event == XACT_EVENT_PRE_PREPARE && session.has_changes)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that has changed mau's settings or users"),
                        errhint("Commit the transaction, or make the change in one of its own.")));
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
    if (event == XACT_EVENT_COMMIT) {
        // First, so that a key made after the other generations are raised sees the change of the settings.
        if (settings_to_invalidate) pg_atomic_fetch_add_u32(session.settings_generation, 1);
        if (all_to_invalidate) pg_atomic_fetch_add_u32(session.generation, 1);
        for (const Key& key : to_invalidate) pg_atomic_fetch_add_u32(&set_of(key).generation, 1);
        for (const Pending& pending : to_remember) write(pending);
    }
    if (session.hits + session.misses >= kFlush) {
        pg_atomic_fetch_add_u64(&session.shared->hits, session.hits);
        pg_atomic_fetch_add_u64(&session.shared->misses, session.misses);
        session.hits = session.misses = 0;
    }
    forget_pending();
}

void on_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    // Entries of a rolled-back subtransaction must not be stored; one invalidation too many does no harm.
    if (event == SUBXACT_EVENT_ABORT_SUB) to_remember.clear();
}

}  // namespace

void init() {
    pg::guard([] {
        if (!process_shared_preload_libraries_in_progress) return;  // a size of nothing
        DefineCustomIntVariable(
            "mau.seen_cache_size", "Shared memory for the cache of recently seen users.",
            "24 MB hold some 600 000 users. Raise it if mau.status shows a low hit rate, up to 40 bytes "
            "for each user who is active within an hour.",
            &size_kb, 24576, 128, 4194304, PGC_POSTMASTER, GUC_UNIT_KB, nullptr, nullptr, nullptr);
        RegisterXactCallback(on_transaction, nullptr);
        RegisterSubXactCallback(on_subtransaction, nullptr);
    });
}

Key key_of(std::string_view user_id) {
    Key key;
    if (!attached()) return key;
    const auto* bytes = reinterpret_cast<const unsigned char*>(user_id.data());
    const int length = static_cast<int>(user_id.size());
    key.first = hash_bytes_extended(bytes, length, session.seeds[0]);
    Set& set = set_of(key);
    __builtin_prefetch(&set);  // the caller has other work until it needs the set
    key.second = hash_bytes_extended(bytes, length, session.seeds[1]);
    key.generation = pg_atomic_read_u32(session.generation) + pg_atomic_read_u32(&set.generation);
    key.usable = !session.has_changes;
    pg_read_barrier();
    return key;
}

bool hit(const Key& key, Instant at, unsigned client, bool count_miss) {
    if (!key.usable || session.is_suspect) return false;
    const Entry found = find(set_of(key), key);
    const bool known = found.i < kEntries && at >= found.span.from() && at <= found.span.until() &&
                       (client & found.span.clients()) == client;
    if (known)
        ++session.hits;
    else if (count_miss)
        ++session.misses;
    return known;
}

void remember(const Key& key, Instant from, Instant until, unsigned client) {
    if (!key.usable || to_remember.size() >= kMaxPending || from > until) return;
    to_remember.push_back({key, Span(from, until, client)});
}

void invalidate(std::string_view user_id) {
    const Key key = key_of(user_id);
    if (!attached()) return;
    if (to_invalidate.size() < 1000)
        to_invalidate.push_back(key);
    else
        all_to_invalidate = true;
    session.has_changes = true;
    to_remember.clear();
}

void invalidate_all() {
    if (!attached()) return;
    all_to_invalidate = session.has_changes = true;
    to_remember.clear();
}

void invalidate_settings() {
    invalidate_all();
    settings_to_invalidate = session.has_changes;
}

std::uint32_t settings_generation() {
    if (!attached()) return 0;
    const std::uint32_t generation = pg_atomic_read_u32(session.settings_generation);
    pg_read_barrier();
    return generation;
}

void suspect() {
    session.is_suspect = true;
}

void trust(std::uint64_t version) {
    session.is_suspect = false;
    if (!attached()) return;
    if (pg_atomic_exchange_u64(session.version, version) != version)
        pg_atomic_fetch_add_u32(session.generation, 1);
}

Usage usage() {
    auto* shared = piece.get<Shared>();
    if (!shared) return {0, 0, 0};
    return {static_cast<std::int64_t>(bytes()), static_cast<std::int64_t>(pg_atomic_read_u64(&shared->hits)),
            static_cast<std::int64_t>(pg_atomic_read_u64(&shared->misses))};
}

}  // namespace mau::cache

namespace mau {
namespace {

Datum seen_cache(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo);
    const cache::Usage usage = cache::usage();
    result.add({usage.size, usage.hits, usage.misses});
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_seen_cache, seen_cache);

}  // namespace mau
