#include "seen.hpp"

#include "pg/shmem.hpp"
#include "pg/values.hpp"

namespace mau::seen {

namespace {

int size_kb = 16384;

constexpr std::size_t kWays = 4;
constexpr std::size_t kFirstSets = 1024;    // at most, at the start
constexpr std::int64_t kOverflow = 8;       // so many entries that fit in weigh as one that does not
constexpr std::size_t kPartitions = 512;    // of users, for the generations: a page of memory
constexpr std::size_t kMaxPending = 65536;  // entries that one transaction keeps for its commit
constexpr std::uint32_t kFlush = 64;        // calls after which a session hands in its figures

struct alignas(32) Entry {  // half a line of memory: a look costs one miss
    pg_atomic_uint64 check, second, generation, span;
};
struct Set {
    Entry entries[kWays];
};

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

/// Sets of places are taken into use as they are needed, twice as many at a time: a small server's entries
/// are close together, which spares the processor's tables of pages. Entries that are elsewhere then are
/// missed once; one that is left at an old place says nothing wrong there.
struct Shared {
    std::uint64_t seeds[2];
    std::uint64_t most_sets;
    pg_atomic_uint64 sets;  // in use
    pg_atomic_uint64 database_generation[pg::kMaxDatabases];
    pg_atomic_uint64 user_generation[kPartitions];
    pg_atomic_uint64 hits, misses;
    pg_atomic_uint64 pressure;  // signed: goes up with entries whose first set is full of what still holds
    Set set[FLEXIBLE_ARRAY_MEMBER];
};

std::size_t bytes() {
    return static_cast<std::size_t>(size_kb) * 1024;
}

std::uint64_t most_sets() {
    const std::size_t room = bytes() > offsetof(Shared, set) ? bytes() - offsetof(Shared, set) : 0;
    return std::max<std::size_t>(1, room / sizeof(Set));
}

/// How many sets are in use at first: a part of all by a power of two.
std::uint64_t first_sets() {
    std::uint64_t sets = most_sets();
    while (sets > kFirstSets) sets /= 2;
    return sets;
}

pg::SharedPiece piece(
    "mau recently seen", [] { return offsetof(Shared, set) + most_sets() * sizeof(Set); },
    [](void* memory) {
        auto* shared = static_cast<Shared*>(memory);
        if (!pg_strong_random(shared->seeds, sizeof shared->seeds))
            elog(ERROR, "mau: no random numbers to be had for the recently seen cache");
        shared->most_sets = most_sets();
        pg_atomic_init_u64(&shared->sets, first_sets());
        pg_atomic_init_u64(&shared->pressure, 0);
        // All zero is a good beginning for 64-bit atomics where they are real ones, and the generation 0 is
        // nobody's.
        for (auto& generation : shared->database_generation) pg_atomic_init_u64(&generation, 1);
        for (auto& generation : shared->user_generation) pg_atomic_init_u64(&generation, 1);
        pg_atomic_init_u64(&shared->hits, 0);
        pg_atomic_init_u64(&shared->misses, 0);
        for (std::uint64_t i = 0; i < shared->most_sets; ++i)
            for (Entry& entry : shared->set[i].entries)
                for (pg_atomic_uint64* word : {&entry.check, &entry.second, &entry.generation, &entry.span})
                    pg_atomic_init_u64(word, 0);
    });

/// What an entry says, read in one go; `key` makes sure that it was not half-way written.
struct Read {
    std::uint64_t generation = 0;
    Span span;
};

std::uint64_t rotate(std::uint64_t word, int by) {
    return (word << by) | (word >> (64 - by));
}

std::uint64_t check_of(std::uint64_t first, std::uint64_t second, const Read& read) {
    return first ^ rotate(second, 7) ^ rotate(read.generation, 19) ^ rotate(read.span.word(), 41);
}

bool read_entry(Entry& entry, const Key& key, Read& read) {
    if (pg_atomic_read_u64(&entry.second) != key.second) return false;
    read = {pg_atomic_read_u64(&entry.generation), Span(pg_atomic_read_u64(&entry.span))};
    return pg_atomic_read_u64(&entry.check) == check_of(key.first, key.second, read);
}

void write_entry(Entry& entry, const Key& key, const Read& read) {
    pg_atomic_write_u64(&entry.check, 0);
    pg_atomic_write_u64(&entry.second, key.second);
    pg_atomic_write_u64(&entry.generation, read.generation);
    pg_atomic_write_u64(&entry.span, read.span.word());
    pg_atomic_write_u64(&entry.check, check_of(key.first, key.second, read));
}

/// The places in which a user's entry may be, the best first: most are found by the first look. Two sets, so
/// that one that happens to be full sends nobody away while there is room.
class Places {
  public:
    static constexpr std::size_t kCount = 2 * kWays;
    Places(Shared* shared, const Key& key)
        : all_(shared->set), sets_(pg_atomic_read_u64(&shared->sets)), key_(key) {}
    Entry& operator[](std::size_t i) const {
        static_assert(kWays == 1 << (64 - 62));
        const std::uint64_t hash = i < kWays ? key_.first : key_.second;
        return all_[hash % sets_].entries[((key_.first >> 62) + i) % kWays];
    }

  private:
    Set* all_;
    std::uint64_t sets_;
    const Key& key_;
};

std::size_t partition_of(std::uint64_t first) {
    return (first >> 32) % kPartitions;
}

std::uint64_t generation_of(Shared* shared, int database, std::uint64_t first) {
    return pg_atomic_read_u64(&shared->database_generation[database]) +
           pg_atomic_read_u64(&shared->user_generation[partition_of(first)]);
}

// --- What this transaction will tell at commit
// --------------------------------------------------------------------

struct Pending {
    Key key;
    Span span;
};
std::vector<Pending> to_remember;
std::vector<std::uint64_t> to_invalidate;  // first hashes
bool all_to_invalidate = false;
std::uint32_t unreported_hits = 0, unreported_misses = 0;

/// Notes whether a new entry fitted into its first set, and takes more sets into use if too many do not.
void note_fit(Shared* shared, bool fits) {
    const auto pressure = static_cast<std::int64_t>(pg_atomic_read_u64(&shared->pressure));
    const std::uint64_t sets = pg_atomic_read_u64(&shared->sets);
    if (fits && pressure > 0) pg_atomic_fetch_sub_u64(&shared->pressure, 1);
    if (fits || 2 * sets > shared->most_sets) return;
    pg_atomic_fetch_add_u64(&shared->pressure, kOverflow);
    if (pressure < static_cast<std::int64_t>(sets)) return;
    std::uint64_t expected = sets;
    if (pg_atomic_compare_exchange_u64(&shared->sets, &expected, 2 * sets))
        pg_atomic_write_u64(&shared->pressure, 0);
}

/// The place for an entry that has none: of one that does not hold any more at `at`, or else of the one that
/// ends first.
Entry& place_for(Shared* shared, const Places& set, Instant at) {
    Entry* place = nullptr;
    Instant worst = INT64_MAX;
    for (std::size_t i = 0; i < Places::kCount; ++i) {
        const Instant ends = Span(pg_atomic_read_u64(&set[i].span)).until();
        if (ends < worst) {
            worst = ends;
            place = &set[i];
        }
        if (i == kWays - 1) {
            note_fit(shared, worst < at);
            if (worst < at) break;
        }
    }
    return *place;
}

void write(Shared* shared, const Pending& pending) {
    const Places set(shared, pending.key);
    Entry* place = nullptr;
    Read old;
    for (std::size_t i = 0; i < Places::kCount && !place; ++i)
        if (read_entry(set[i], pending.key, old)) place = &set[i];
    Span span = pending.span;
    if (place && old.generation == pending.key.generation && old.span.from() / kDay == span.from() / kDay)
        span.add_clients(old.span.clients());  // the day's other clients are marked still
    if (!place) place = &place_for(shared, set, span.from());
    write_entry(*place, pending.key, {pending.key.generation, span});
}

void forget_pending() {
    to_remember.clear();
    to_invalidate.clear();
    all_to_invalidate = false;
}

void on_transaction(XactEvent event, void*) {
    // Nobody would be told at COMMIT PREPARED.
    if (event == XACT_EVENT_PRE_PREPARE && (all_to_invalidate || !to_invalidate.empty()))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that has changed mau's settings or users"),
                        errhint("Commit the transaction, or make the change in one of its own.")));
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
    auto* shared = piece.get<Shared>();
    if (shared && event == XACT_EVENT_COMMIT) {
        if (all_to_invalidate)
            pg_atomic_fetch_add_u64(&shared->database_generation[pg::database_number()], 1);
        for (const std::uint64_t first : to_invalidate)
            pg_atomic_fetch_add_u64(&shared->user_generation[partition_of(first)], 1);
        for (const Pending& pending : to_remember) write(shared, pending);
    }
    if (shared && unreported_hits + unreported_misses >= kFlush) {
        pg_atomic_fetch_add_u64(&shared->hits, unreported_hits);
        pg_atomic_fetch_add_u64(&shared->misses, unreported_misses);
        unreported_hits = unreported_misses = 0;
    }
    forget_pending();
}

void on_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    // What was undone must not be remembered; what was to be invalidated may be, once too often.
    if (event == SUBXACT_EVENT_ABORT_SUB) to_remember.clear();
}

/// Whether an entry says that a sighting changes nothing.
bool find(const Key& key, Instant at, unsigned client) {
    if (!key.usable) return false;
    const Places set(piece.get<Shared>(), key);
    for (std::size_t i = 0; i < Places::kCount; ++i) {
        Read read;
        if (!read_entry(set[i], key, read) || read.generation != key.generation) continue;
        return at >= read.span.from() && at <= read.span.until() && (client & read.span.clients()) == client;
    }
    return false;
}

}  // namespace

void init() {
    pg::guard([] {
        if (!process_shared_preload_libraries_in_progress) return;  // a size of nothing
        DefineCustomIntVariable(
            "mau.seen_cache_size", "Shared memory for the cache of recently seen users.",
            "An entry takes 32 bytes: 16 MB hold some 500 000 users. Raise it if mau.status shows "
            "a low hit rate, up to 32 bytes for each user who is active within an hour.",
            &size_kb, 16384, 128, 4194304, PGC_POSTMASTER, GUC_UNIT_KB, nullptr, nullptr, nullptr);
        RegisterXactCallback(on_transaction, nullptr);
        RegisterSubXactCallback(on_subtransaction, nullptr);
    });
}

Key key_of(std::string_view user_id) {
    Key key;
    auto* shared = piece.get<Shared>();
    int const database = shared ? pg::database_number() : -1;
    if (database < 0) return key;
    const auto* bytes = reinterpret_cast<const unsigned char*>(user_id.data());
    const int length = static_cast<int>(user_id.size());
    key.first = hash_bytes_extended(bytes, length, shared->seeds[0] + static_cast<std::uint64_t>(database));
    // What is read next is fetched while there is still something else to work out.
    __builtin_prefetch(&Places(shared, key)[0]);
    __builtin_prefetch(&shared->user_generation[partition_of(key.first)]);
    key.second = hash_bytes_extended(bytes, length, shared->seeds[1] ^ static_cast<std::uint64_t>(database));
    key.generation = generation_of(shared, database, key.first);
    key.usable = !all_to_invalidate && to_invalidate.empty();
    pg_read_barrier();
    return key;
}

bool hit(const Key& key, Instant at, unsigned client, bool count_miss) {
    if (!key.usable) return false;
    if (find(key, at, client)) {
        ++unreported_hits;
        return true;
    }
    if (count_miss) ++unreported_misses;
    return false;
}

bool vouches(const Key& key, Instant at) {
    if (!key.usable) return false;
    const Places set(piece.get<Shared>(), key);
    for (std::size_t i = 0; i < Places::kCount; ++i) {
        Read read;
        if (read_entry(set[i], key, read) && read.generation == key.generation) return at >= read.span.from();
    }
    return false;
}

void remember(const Key& key, Instant from, Instant until, unsigned client) {
    if (!key.usable || to_remember.size() >= kMaxPending || from > until) return;
    to_remember.push_back({key, Span(from, until, client)});
}

void invalidate(std::string_view user_id) {
    const Key key = key_of(user_id);
    if (key.generation == 0) return;
    if (to_invalidate.size() < 1000)
        to_invalidate.push_back(key.first);
    else
        all_to_invalidate = true;
    to_remember.clear();
}

void invalidate_all() {
    if (!piece.get<Shared>() || pg::database_number() < 0) return;
    all_to_invalidate = true;
    to_remember.clear();
}

Figures figures() {
    auto* shared = piece.get<Shared>();
    if (!shared) return {0, 0, 0};
    return {static_cast<std::int64_t>(bytes()), static_cast<std::int64_t>(pg_atomic_read_u64(&shared->hits)),
            static_cast<std::int64_t>(pg_atomic_read_u64(&shared->misses))};
}

}  // namespace mau::seen

namespace mau {
namespace {

Datum seen_cache(FunctionCallInfo fcinfo) {
    pg::ResultSet result(fcinfo);
    const seen::Figures figures = seen::figures();
    result.add({figures.size, figures.hits, figures.misses});
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_seen_cache, seen_cache);

}  // namespace mau
