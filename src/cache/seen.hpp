// The recently seen cache in shared memory: a repeated sighting of a member touches no table.
//
// An entry says: a sighting of this user at any instant from `from` to `until`, from one of these clients,
// changes nothing, and a request of this user goes ahead. `until` is (within 8 s) where the granularity or
// the UTC day ends, whichever is first; settings that would say otherwise raise the generation.
//
// A fixed array of sets. One hash of the user chooses the set, another one tells its entries apart; their
// seeds are drawn at each start. A new entry takes the place of the one in its set that ends first.
//
// No locks. An entry has a word that is made of the user's hash, the generation and all that it says: a
// reader who met a writer half-way sees that it does not fit, and takes it for a miss.
//
// Truth. Entries are written at commit only, with the generation that was read before the tables were looked
// at. Whatever makes an entry wrong raises the generation, the database's or the user's, after it became
// visible: who looked before writes an entry that is old already. Settings are read once and kept, so they
// have a generation besides. A session that has such a change in its own open transaction does not ask the
// cache.
#pragma once

#include "rules/calendar.hpp"

#include "pg/boundary.hpp"

namespace mau::seen {

void init();

/// Who is asked for, worked out once.
struct Key {
    std::uint64_t first = 0, second = 0;  // hashes
    std::uint32_t generation = 0;         // as it was when the key was made: before the tables are looked at
    bool usable = false;  // false without preload, or while this transaction has changes of its own
};
Key key_of(std::string_view user_id);

/// Any client: for requests that say nothing of it.
inline constexpr unsigned kAnyClient = 0;

/// Whether a sighting at `at` by the client (a bit, or `kAnyClient`) is known to change nothing.
/// A miss is not counted by who asks once more.
bool hit(const Key& key, Instant at, unsigned client, bool count_miss = true);

/// Remembers at commit that nothing changes from `from` until `until` for the client, nor for those in the
/// entry that is there for the same day.
void remember(const Key& key, Instant from, Instant until, unsigned client);

/// At commit, no entry of the user (of anybody) that was written before holds any more.
void invalidate(std::string_view user_id);
void invalidate_all();

/// Likewise for a change of the settings: nobody who has read them before then remembers anything any more.
/// (The server tells sessions of such a change only after the generation is raised.)
void invalidate_settings();
/// How often that was. To be read before the settings are, and compared before anything is remembered by
/// them.
std::uint32_t settings_generation();

struct Figures {
    std::int64_t size;  // bytes; 0 without preload
    std::int64_t hits, misses;
};
Figures figures();

}  // namespace mau::seen
