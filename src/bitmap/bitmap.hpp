#pragma once

// bitmap: codec and algebra of day bitmaps.
//
// A chunk is the 65 536 users with the same user_no >> 16; a day bitmap is the set of them who were active on
// one UTC day. On disk it is the portable Roaring format with exactly one container, whose key is the low 16
// bits of the chunk's number, so that any Roaring library reads it. In memory it is `Bits`, always 8 KB.
//
// bitmap/algebra.hpp asks questions about many days of them.

#include "base/pure.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace mau::bitmap {

inline constexpr std::size_t kUsers = 65536;
inline constexpr std::size_t kWords = kUsers / 64;
inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kBitsetBytes = kUsers / 8;
inline constexpr std::size_t kArrayLimit = 4096;  // more users than this are stored as a bitset

/// A set of users of one chunk: bit u % 64 of word u / 64 is user u. `Bits b;` is not initialised, `Bits
/// b{};` is empty.
struct Bits {
    std::uint64_t word[kWords];

    void clear();
    void fill();
    void set(std::uint16_t user) { word[user >> 6] |= std::uint64_t{1} << (user & 63); }
    void reset(std::uint16_t user) { word[user >> 6] &= ~(std::uint64_t{1} << (user & 63)); }
    bool test(std::uint16_t user) const { return word[user >> 6] >> (user & 63) & 1; }

    Bits& operator|=(const Bits& other);
    Bits& operator&=(const Bits& other);
    Bits& operator-=(const Bits& other);  // and not

    std::uint32_t count() const;

    /// Calls f(uint16_t user) for every user in the set, in ascending order.
    template <class F>
    void for_each(F&& f) const {
        for (std::size_t w = 0; w < kWords; ++w)
            for (std::uint64_t rest = word[w]; rest != 0; rest &= rest - 1)
                f(static_cast<std::uint16_t>(w * 64 + static_cast<unsigned>(__builtin_ctzll(rest))));
    }
};

/// The stored bytes are not what `encode` writes. The message gives the reason; the caller knows the row.
struct CorruptBitmap : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The Roaring key of a chunk.
constexpr std::uint16_t key_of(std::uint64_t chunk) {
    return static_cast<std::uint16_t>(chunk & 0xffff);
}

/// The encoded size, in bytes, of a set of so many users; 0 for the empty set, which has no encoding (no
/// row).
constexpr std::size_t encoded_size(std::size_t users) {
    if (users == 0) return 0;
    return kHeaderBytes + (users <= kArrayLimit ? users * 2 : kBitsetBytes);
}

/// Writes a set in its one canonical form and returns its length in bytes, at most encoded_size(kUsers);
/// 0 for the empty set.
std::size_t encode(const Bits& users, std::uint16_t key, std::uint8_t* out);

/// Adds the users of an encoded set to `into`, only those that are also in `keep` if it is given, and returns
/// how many users the encoded set has (kept or not). Throws CorruptBitmap, with `into` untouched, unless the
/// bytes are exactly what encode() writes for that key.
std::uint32_t decode(const void* data, std::size_t size, std::uint16_t key, Bits& into,
                     const Bits* keep = nullptr);

/// The key of an encoded set; CorruptBitmap if the bytes are too few for one. `decode` checks the rest.
std::uint16_t stored_key(const void* data, std::size_t size);

}  // namespace mau::bitmap
