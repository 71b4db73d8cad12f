#include "cache/seen.hpp"

#include "pg/shmem.hpp"
#include "pg/values.hpp"

namespace mau::seen {

namespace {

int size_kb = 16384;

constexpr std::size_t kEntries = 3;         // in a line
constexpr std::size_t kPage = 64;           // lines in a page of memory
constexpr std::size_t kFirstLines = 1024;   // at most, at the start
constexpr std::int64_t kOverflow = 8;       // so many entries that fit in weigh as one that does not
constexpr std::int64_t kFound = 16;         // and so many that are found as one that fits in
constexpr std::size_t kMaxPending = 65536;  // entries that one transaction keeps for its commit
constexpr std::uint32_t kFlush = 64;        // calls after which a session hands in its figures

/// A line of memory, so that a look costs one miss. `generation` is of the users whose first choice it is,
/// wherever their entries are.
struct alignas(64) Line {
    pg_atomic_uint32 generation;
    pg_atomic_uint32 generations[kEntries];  // the entries'; 0: none
    pg_atomic_uint64 checks[kEntries];
    pg_atomic_uint64 spans[kEntries];
};
static_assert(sizeof(Line) == 64);

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

/// Lines are taken into use as they are needed, four times as many at a time: a small server's entries are
/// close together, which spares the processor's caches and tables of pages. All entries are missed once then.
struct Shared {
    pg_atomic_uint64 lines;  // in use: whole pages
    pg_atomic_uint32 database_generation[pg::kMaxDatabases];
    pg_atomic_uint32 settings_generation[pg::kMaxDatabases];
    std::uint64_t most_lines;
    std::uint64_t seeds[2];
    pg_atomic_uint64 hits, misses;
    pg_atomic_uint64 pressure;  // signed: goes up with entries for which there is no room

    /// The lines, at the first page's beginning after this.
    Line* line() { return reinterpret_cast<Line*>(TYPEALIGN(sizeof(Line) * kPage, this + 1)); }
};

std::size_t bytes() {
    return static_cast<std::size_t>(size_kb) * 1024;
}

std::uint64_t whole_pages(std::uint64_t lines) {
    return lines / kPage * kPage;
}

std::uint64_t most_lines() {
    constexpr std::size_t kAhead = sizeof(Shared) + sizeof(Line) * kPage;
    return whole_pages((bytes() - kAhead) / sizeof(Line));
}

pg::SharedPiece piece("mau recently seen", bytes, [](void* memory) {
    auto* shared = static_cast<Shared*>(memory);
    if (!pg_strong_random(shared->seeds, sizeof shared->seeds))
        elog(ERROR, "mau: no random numbers to be had for the recently seen cache");
    shared->most_lines = most_lines();
    pg_atomic_init_u64(&shared->lines, std::min<std::uint64_t>(shared->most_lines, kFirstLines));
    pg_atomic_init_u64(&shared->pressure, 0);
    // The generation 0 is nobody's.
    for (auto& generation : shared->database_generation) pg_atomic_init_u32(&generation, 1);
    for (auto& generation : shared->settings_generation) pg_atomic_init_u32(&generation, 1);
    pg_atomic_init_u64(&shared->hits, 0);
    pg_atomic_init_u64(&shared->misses, 0);
    for (std::uint64_t i = 0; i < shared->most_lines; ++i) {
        Line& line = shared->line()[i];
        pg_atomic_init_u32(&line.generation, 0);
        for (std::size_t j = 0; j < kEntries; ++j) {
            pg_atomic_init_u32(&line.generations[j], 0);
            pg_atomic_init_u64(&line.checks[j], 0);
            pg_atomic_init_u64(&line.spans[j], 0);
        }
    }
});

/// What a session needs at every call, close together.
struct alignas(64) Session {
    Shared* shared = nullptr;
    Line* line = nullptr;
    pg_atomic_uint32* generation = nullptr;  // the database's
    pg_atomic_uint32* settings_generation = nullptr;
    std::uint64_t seeds[2];
    bool has_changes = false;            // that will invalidate something at commit
    std::uint32_t hits = 0, misses = 0;  // not handed in yet
};
Session session;

/// Whether the session has the cache.
bool attached() {
    if (session.shared) return true;
    auto* const shared = piece.get<Shared>();
    int const database = shared ? pg::database_number() : -1;
    if (database < 0) return false;
    session.line = shared->line();
    session.generation = &shared->database_generation[database];
    session.settings_generation = &shared->settings_generation[database];
    for (int i = 0; i < 2; ++i) session.seeds[i] = shared->seeds[i] + static_cast<std::uint64_t>(database);
    session.shared = shared;
    return true;
}

std::uint64_t rotate(std::uint64_t word, int by) {
    return (word << by) | (word >> (64 - by));
}

/// Made of all that an entry says and whom it is of, so that one that was half-way written fits nobody; and
/// of the number of lines, for generations are elsewhere when that changes.
std::uint64_t check_of(const Key& key, std::uint32_t generation, Span span) {
    return key.second ^ rotate(key.lines, 31) ^ rotate(generation, 19) ^ rotate(span.word(), 41);
}

/// The lines in which a user's entry may be, the best first: all in one page of memory, and the second next
/// to the first, for processors fetch lines in pairs. Several, so that a line that happens to be full sends
/// nobody away while there is room.
class Choices {
  public:
    static constexpr std::size_t kCount = 4;
    explicit Choices(const Key& key)
        : first_(static_cast<std::size_t>(static_cast<Product>(key.first) * key.lines >> 64)),
          far_(2 * (1 + key.second % (kPage / 2 - 1))) {}
    Line& operator[](std::size_t i) const { return session.line[first_ ^ (i & 1) ^ (i & 2 ? far_ : 0)]; }

  private:
    __extension__ using Product = unsigned __int128;
    std::size_t first_, far_;
};

/// What the entry of a user says; generation 0: there is none.
struct Read {
    std::uint32_t generation = 0;
    std::size_t i = 0;
    Span span;
};

/// The user's entry in a line. No branch on which one it is: the processor would guess, and what it works out
/// while the line is on its way would be for nothing.
Read read_entry(Line& line, const Key& key) {
    std::uint64_t generation = 0, i = 0, span = 0;
    for (std::uint64_t j = 0; j < kEntries; ++j) {
        const std::uint32_t its_generation = pg_atomic_read_u32(&line.generations[j]);
        const std::uint64_t its_span = pg_atomic_read_u64(&line.spans[j]);
        const bool is_it =
            pg_atomic_read_u64(&line.checks[j]) == check_of(key, its_generation, Span(its_span));
        const std::uint64_t its = -static_cast<std::uint64_t>(is_it);
        generation = (generation & ~its) | (its_generation & its);
        span = (span & ~its) | (its_span & its);
        i = (i & ~its) | (j & its);
    }
    return {static_cast<std::uint32_t>(generation), i, Span(span)};
}

void write_entry(Line& line, std::size_t i, const Key& key, Span span) {
    pg_atomic_write_u64(&line.checks[i], 0);
    pg_atomic_write_u64(&line.spans[i], span.word());
    pg_atomic_write_u32(&line.generations[i], key.generation);
    pg_atomic_write_u64(&line.checks[i], check_of(key, key.generation, span));
}

// --- What this transaction will tell at commit ---

struct Pending {
    Key key;
    Span span;
};
std::vector<Pending> to_remember;
std::vector<Key> to_invalidate;
bool all_to_invalidate = false, settings_to_invalidate = false;

/// Takes more lines into use.
void grow(Shared* shared, std::uint64_t lines) {
    std::uint64_t expected = lines;
    const std::uint64_t more = std::min(shared->most_lines, 4 * lines);
    if (!pg_atomic_compare_exchange_u64(&shared->lines, &expected, more)) return;
    for (std::uint64_t i = 0; i < lines; ++i)  // what nobody finds any more is not to be in the way
        for (auto& span : session.line[i].spans) pg_atomic_write_u64(&span, 0);
    pg_atomic_write_u64(&shared->pressure, 0);
}

/// Takes from the pressure.
void relieve(std::int64_t by) {
    const auto pressure = static_cast<std::int64_t>(pg_atomic_read_u64(&session.shared->pressure));
    if (pressure > 0) pg_atomic_fetch_sub_u64(&session.shared->pressure, std::min(by, pressure));
}

/// Notes whether there was room for a new entry, and takes more lines into use if too often there was none.
void note_fit(Shared* shared, bool fits) {
    if (fits) return relieve(1);
    const std::uint64_t lines = pg_atomic_read_u64(&shared->lines);
    if (lines == shared->most_lines) return;
    const auto pressure = static_cast<std::int64_t>(pg_atomic_fetch_add_u64(&shared->pressure, kOverflow));
    if (pressure >= static_cast<std::int64_t>(lines)) grow(shared, lines);
}

/// A place for an entry.
struct Place {
    Line* line;
    std::size_t i;
};

/// The place for an entry that has none: the first of one that ended a day before `at`, or else of the one
/// that ends first; what ended lately still vouches for its user.
Place place_for(const Choices& choices, Instant at) {
    Place place{};
    Instant worst = INT64_MAX;
    for (std::size_t c = 0; c < Choices::kCount && worst >= at - kDay; ++c) {
        for (std::size_t i = 0; i < kEntries; ++i) {
            const Instant ends = Span(pg_atomic_read_u64(&choices[c].spans[i])).until();
            if (ends >= worst) continue;
            worst = ends;
            place = {&choices[c], i};
        }
    }
    note_fit(session.shared, worst < at);
    return place;
}

void write(const Pending& pending) {
    const Key& key = pending.key;
    if (key.lines != pg_atomic_read_u64(&session.shared->lines)) return;  // nobody would find it
    const Choices choices(key);
    Read old;
    Place place{};
    for (std::size_t c = 0; c < Choices::kCount && old.generation == 0; ++c) {
        old = read_entry(choices[c], key);
        place = {&choices[c], old.i};
    }
    Span span = pending.span;
    if (old.generation == key.generation && old.span.from() / kDay == span.from() / kDay)
        span.add_clients(old.span.clients());  // the day's other clients are marked still
    if (old.generation == 0) place = place_for(choices, span.from());
    write_entry(*place.line, place.i, key, span);
}

void forget_pending() {
    to_remember.clear();
    to_invalidate.clear();
    all_to_invalidate = settings_to_invalidate = session.has_changes = false;
}

void on_transaction(XactEvent event, void*) {
    // Nobody would be told at COMMIT PREPARED.
    if (event == XACT_EVENT_PRE_PREPARE && session.has_changes)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that has changed mau's settings or users"),
                        errhint("Commit the transaction, or make the change in one of its own.")));
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
    if (event == XACT_EVENT_COMMIT) {
        // First: who makes a key of what comes next finds out that the settings have changed.
        if (settings_to_invalidate) pg_atomic_fetch_add_u32(session.settings_generation, 1);
        if (all_to_invalidate) pg_atomic_fetch_add_u32(session.generation, 1);
        for (Key& key : to_invalidate) {
            key.lines = pg_atomic_read_u64(&session.shared->lines);
            pg_atomic_fetch_add_u32(&Choices(key)[0].generation, 1);
        }
        for (const Pending& pending : to_remember) write(pending);
    }
    if (session.hits + session.misses >= kFlush) {
        pg_atomic_fetch_add_u64(&session.shared->hits, session.hits);
        pg_atomic_fetch_add_u64(&session.shared->misses, session.misses);
        relieve(session.hits / kFound);
        session.hits = session.misses = 0;
    }
    forget_pending();
}

void on_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    // What was undone must not be remembered; what was to be invalidated may be, once too often.
    if (event == SUBXACT_EVENT_ABORT_SUB) to_remember.clear();
}

/// The user's entry, wherever it is, if nothing has made it wrong.
Read find(const Key& key) {
    const Choices choices(key);
    Read read = read_entry(choices[0], key);
    for (std::size_t c = 1; c < Choices::kCount && read.generation == 0; ++c)
        read = read_entry(choices[c], key);
    return read.generation == key.generation ? read : Read();
}

}  // namespace

void init() {
    pg::guard([] {
        if (!process_shared_preload_libraries_in_progress) return;  // a size of nothing
        DefineCustomIntVariable(
            "mau.seen_cache_size", "Shared memory for the cache of recently seen users.",
            "16 MB hold some 600 000 users. Raise it if mau.status shows a low hit rate, up to 28 bytes "
            "for each user who is active within an hour.",
            &size_kb, 16384, 128, 4194304, PGC_POSTMASTER, GUC_UNIT_KB, nullptr, nullptr, nullptr);
        RegisterXactCallback(on_transaction, nullptr);
        RegisterSubXactCallback(on_subtransaction, nullptr);
    });
}

Key key_of(std::string_view user_id) {
    Key key;
    if (!attached()) return key;
    const auto* bytes = reinterpret_cast<const unsigned char*>(user_id.data());
    const int length = static_cast<int>(user_id.size());
    key.lines = pg_atomic_read_u64(&session.shared->lines);
    key.first = hash_bytes_extended(bytes, length, session.seeds[0]);
    Line& line = Choices(key)[0];
    __builtin_prefetch(&line);  // while there is still something else to work out
    key.second = hash_bytes_extended(bytes, length, session.seeds[1]);
    key.generation = pg_atomic_read_u32(session.generation) + pg_atomic_read_u32(&line.generation);
    key.usable = !session.has_changes;
    pg_read_barrier();
    return key;
}

bool hit(const Key& key, Instant at, unsigned client, bool count_miss) {
    if (!key.usable) return false;
    const Read read = find(key);
    const bool known = read.generation != 0 && at >= read.span.from() && at <= read.span.until() &&
                       (client & read.span.clients()) == client;
    if (known)
        ++session.hits;
    else if (count_miss)
        ++session.misses;
    return known;
}

bool vouches(const Key& key, Instant at) {
    if (!key.usable) return false;
    const Read read = find(key);
    return read.generation != 0 && at >= read.span.from();
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
