// Users found in a homeserver's rows, with their number and service, by a hash of the user id. The table has
// a fixed size, so it can lose a user, who then has to be looked up in mau.users again.
#pragma once

#include "base/pure.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace mau::source {

/// Two independent hashes of a user id, with random seeds. Users are told apart by 80 bits of them.
struct UserHash {
    std::uint64_t first, second;
};

/// The part of a user that a visit needs.
struct KnownUser {
    std::int64_t number;    // -1: the user is left out
    std::uint32_t service;  // its place in a list
};

/// A set-associative table: a hash chooses a set, and where that is full, a new user replaces another of the
/// set. So a server with more users than the table holds loses some of them, and never all at once.
class KnownUsers {
  public:
    static constexpr std::size_t kMaxBytes = std::size_t{64} << 20;

    /// Makes room for so many users, as far as the memory allows; 64 MB hold four million.
    explicit KnownUsers(std::int64_t users, std::size_t max_bytes = kMaxBytes);

    std::optional<KnownUser> find(const UserHash& hash) const;
    /// Adds a user whom `find` did not return; does nothing if the number or the service does not fit into an
    /// entry.
    void add(const UserHash& hash, const KnownUser& user);
    std::size_t bytes() const { return sets_.size() * sizeof(Set); }

  private:
    static constexpr int kEntries = 4, kNumberBits = 40, kServiceBits = 8;

    /// Entries of 16 bytes, in one cache line. A value has the number + 2 (0: no entry), the service, and 16
    /// bits of the first hash, of which other bits choose the set.
    struct alignas(64) Set {
        std::uint64_t checks[kEntries], values[kEntries];
    };
    const Set& set_of(const UserHash& hash) const;

    std::vector<Set> sets_;
    unsigned next_ = 0;  // the entry that is replaced next
};

}  // namespace mau::source
