#define MAU_PURE_SOURCE
#include "bitmap/bitmap.hpp"

#include "bitmap/kernels.hpp"

#include <cstring>
#include <string>

namespace mau::bitmap {

namespace {

// The portable Roaring format, one container, no runs, everything little endian:
//   0  u32  cookie          8  u16  key                      12  u32  where the container begins
//   4  u32  containers      10  u16  number of users - 1     16  the container
constexpr std::uint32_t kCookie = 12346;

constexpr bool kLittleEndian = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;

std::uint32_t get16(const std::uint8_t* p) {
    return p[0] | static_cast<std::uint32_t>(p[1]) << 8;
}
std::uint32_t get32(const std::uint8_t* p) {
    return get16(p) | get16(p + 2) << 16;
}

void put16(std::uint8_t* p, std::size_t value) {
    p[0] = static_cast<std::uint8_t>(value);
    p[1] = static_cast<std::uint8_t>(value >> 8);
}

void put32(std::uint8_t* p, std::uint32_t value) {
    put16(p, value & 0xffff);
    put16(p + 2, value >> 16);
}

template <class T>
void swap_if_big_endian(T* values, std::size_t n) {
    if constexpr (!kLittleEndian)
        for (std::size_t i = 0; i < n; ++i)
            values[i] =
                static_cast<T>(sizeof(T) == 2 ? __builtin_bswap16(static_cast<std::uint16_t>(values[i]))
                                              : __builtin_bswap64(values[i]));
}

[[noreturn]] void corrupt(const std::string& what, std::uint64_t found, std::uint64_t expected) {
    throw CorruptBitmap(what + " " + std::to_string(found) + ", expected " + std::to_string(expected));
}

void expect(const char* what, std::uint64_t found, std::uint64_t expected) {
    if (found != expected) corrupt(what, found, expected);
}

// Sets several positions at once, because neighbours often share a word and each would wait for the other's
// store.
template <bool masked>
void scatter(const std::uint16_t* values, std::size_t n, Bits& into, const Bits* keep) {
    const auto add = [&](std::uint16_t user) {
        const std::uint64_t bit = std::uint64_t{1} << (user & 63);
        into.word[user >> 6] |= masked ? bit & keep->word[user >> 6] : bit;
    };
    const std::size_t quarter = n / 4;
    for (std::size_t i = 0; i < quarter; ++i) {
        add(values[i]);
        add(values[i + quarter]);
        add(values[i + 2 * quarter]);
        add(values[i + 3 * quarter]);
    }
    for (std::size_t i = 4 * quarter; i < n; ++i) add(values[i]);
}

void decode_array(const std::uint8_t* data, std::size_t n, Bits& into, const Bits* keep) {
    std::uint16_t values[kArrayLimit];
    std::memcpy(values, data, n * sizeof(std::uint16_t));
    swap_if_big_endian(values, n);
    if (!kernels().ascending(values, n)) throw CorruptBitmap("users are not in ascending order");
    if (keep != nullptr)
        scatter<true>(values, n, into, keep);
    else
        scatter<false>(values, n, into, nullptr);
}

void decode_bitset(const std::uint8_t* data, std::size_t n, Bits& into, const Bits* keep) {
    Bits bits;
    std::memcpy(bits.word, data, kBitsetBytes);
    swap_if_big_endian(bits.word, kWords);
    expect("users in the bitset:", bits.count(), n);
    if (keep != nullptr) bits &= *keep;
    into |= bits;
}

}  // namespace

void Bits::clear() {
    std::memset(word, 0, sizeof word);
}

void Bits::fill() {
    std::memset(word, 0xff, sizeof word);
}

Bits& Bits::operator|=(const Bits& other) {
    kernels().unite(word, other.word);
    return *this;
}

Bits& Bits::operator&=(const Bits& other) {
    kernels().intersect(word, other.word);
    return *this;
}

Bits& Bits::operator-=(const Bits& other) {
    kernels().subtract(word, other.word);
    return *this;
}

std::uint32_t Bits::count() const {
    return static_cast<std::uint32_t>(kernels().count(word));
}

std::size_t encode(const Bits& users, std::uint16_t key, std::uint8_t* out) {
    const std::uint32_t n = users.count();
    if (n == 0) return 0;
    put32(out, kCookie);
    put32(out + 4, 1);
    put16(out + 8, key);
    put16(out + 10, n - 1);
    put32(out + 12, kHeaderBytes);
    std::uint8_t* next = out + kHeaderBytes;
    if (n <= kArrayLimit) {
        users.for_each([&](std::uint16_t user) {
            put16(next, user);
            next += 2;
        });
    } else {
        Bits bits = users;
        swap_if_big_endian(bits.word, kWords);
        std::memcpy(next, bits.word, kBitsetBytes);
    }
    return encoded_size(n);
}

std::uint32_t decode(const void* data, std::size_t size, std::uint16_t key, Bits& into, const Bits* keep) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    if (size < kHeaderBytes) corrupt("length", size, kHeaderBytes);
    expect("cookie", get32(bytes), kCookie);
    expect("number of containers", get32(bytes + 4), 1);
    expect("key", get16(bytes + 8), key);
    expect("container offset", get32(bytes + 12), kHeaderBytes);
    const std::uint32_t n = get16(bytes + 10) + 1;
    expect("length", size, encoded_size(n));
    (n <= kArrayLimit ? decode_array : decode_bitset)(bytes + kHeaderBytes, n, into, keep);
    return n;
}

std::uint16_t stored_key(const void* data, std::size_t size) {
    if (size < kHeaderBytes) corrupt("length", size, kHeaderBytes);
    return static_cast<std::uint16_t>(get16(static_cast<const std::uint8_t*>(data) + 8));
}

}  // namespace mau::bitmap
