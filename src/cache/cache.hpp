// The recently seen cache in shared memory: a repeated sighting of a member touches no table.
//
// An entry says: a sighting of this user at any instant from `from` to `until`, from one of these clients,
// changes nothing, and a request of this user goes ahead. `until` is (within 8 s) where the granularity or
// the UTC day ends, whichever is first; a change of settings that would make it wrong raises the generation.
//
// A fixed array of sets. One hash of the user chooses the set, another one distinguishes its entries; their
// seeds are drawn at each start. A new entry takes the place of the one in its set that ends first.
//
// No locks. An entry has a check word made of the user's hash, the generation and the span. In a half-written
// entry it does not match, which is a miss.
//
// Truth. Entries are written at commit only, with the generation that was read before the tables. A change
// that makes entries wrong raises a generation at commit: that of the database, or that of the user's set. A
// session that read the tables before the change writes an entry with the old generation, which is a miss.
// Settings have a generation of their own, because sessions keep a copy of them. A session with such a change
// in its own open transaction does not ask the cache, nor does one that has met DDL on the tables, until it
// has found out whether triggers were disabled meanwhile.
#pragma once

#include "rules/calendar.hpp"

#include "pg/boundary.hpp"

namespace mau::cache {

void init();

/// The user of a look-up, hashed once.
struct Key {
    std::uint64_t first = 0, second = 0;  // hashes
    std::uint32_t generation = 0;         // as it was when the key was made: before the tables are looked at
    bool usable = false;  // false without preload, or while this transaction has changes of its own
};
Key key_of(std::string_view user_id);

/// Any client: for requests whose client is not known.
inline constexpr unsigned kAnyClient = 0;

/// Whether a sighting at `at` by the client (a bit, or `kAnyClient`) is known to change nothing.
/// Pass count_miss = false if the same sighting is looked up again later.
bool hit(const Key& key, Instant at, unsigned client, bool count_miss = true);

/// Stores at commit that sightings between `from` and `until` by the client change nothing. Clients of the
/// user's entry for the same day are kept.
void remember(const Key& key, Instant from, Instant until, unsigned client);

/// Invalidates, at commit, all entries of the user's set, or of the database.
void invalidate(std::string_view user_id);
void invalidate_all();

/// Invalidates the database at commit and raises the settings' generation, before PostgreSQL's own
/// invalidation message reaches other sessions.
void invalidate_settings();
/// The settings' generation. Read it before the settings, and compare it before entries based on them are
/// stored.
std::uint32_t settings_generation();

/// From here on the session does not ask the cache until `trust` is called: there was DDL on a table, and
/// rows may have been written while its triggers were disabled. For PostgreSQL's callbacks.
void suspect();
/// Asks the cache again. `version`: of the triggers that report changes to the cache; if it is not the one
/// that another session had, all entries are invalidated.
void trust(std::uint64_t version);

struct Usage {
    std::int64_t size;  // bytes; 0 without preload
    std::int64_t hits, misses;
};
Usage usage();

}  // namespace mau::cache
