// Feeds the decoder bytes of any kind: it refuses them, or they are exactly what encoding the result gives.
//
// clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Isrc \
//     test/fuzz/bitmap_fuzz.cpp src/bitmap.cpp src/bitmap_kernels.cpp -o build/bitmap_fuzz
// build/bitmap_fuzz -max_total_time=60 -max_len=8300 -timeout=5
//
// The first input byte chooses the kernels, the mask, and whether the header is mended so that most inputs
// get past it.

#include "bitmap/bitmap.hpp"
#include "bitmap/kernels.hpp"

#include <cstdlib>
#include <cstring>
#include <vector>

using namespace mau::bitmap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::uint8_t choice = data[0];
    // A copy of its own, so that the sanitizer sees the very first byte read past the end.
    std::vector<std::uint8_t> bytes(data + 1, data + size);
    force_portable((choice & 1) != 0);
    if ((choice & 2) != 0 && bytes.size() >= kHeaderBytes) {
        const std::uint8_t header[] = {0x3a, 0x30, 0, 0, 1, 0, 0, 0};
        std::memcpy(bytes.data(), header, sizeof header);
        const std::uint8_t offset[] = {16, 0, 0, 0};
        std::memcpy(bytes.data() + 12, offset, sizeof offset);
        const std::size_t payload = bytes.size() - kHeaderBytes;
        if ((choice & 4) != 0 && payload >= 2 && payload <= 2 * kArrayLimit) {
            const std::size_t n = payload / 2 - 1;
            bytes[10] = static_cast<std::uint8_t>(n);
            bytes[11] = static_cast<std::uint8_t>(n >> 8);
        }
    }
    const std::uint16_t key =
        bytes.size() < kHeaderBytes ? 0 : static_cast<std::uint16_t>(bytes[8] | bytes[9] << 8);

    Bits users{};
    std::uint32_t n = 0;
    try {
        n = decode(bytes.data(), bytes.size(), key, users);
    } catch (const CorruptBitmap&) {
        if (users.count() != 0) std::abort();
        return 0;
    }
    std::uint8_t again[encoded_size(kUsers)];
    if (n != users.count() || encode(users, key, again) != bytes.size()) std::abort();
    if (std::memcmp(again, bytes.data(), bytes.size()) != 0) std::abort();

    Bits keep;
    std::memset(keep.word, choice, sizeof keep.word);
    Bits masked{};
    decode(bytes.data(), bytes.size(), key, masked, &keep);
    users &= keep;
    if (std::memcmp(users.word, masked.word, sizeof users.word) != 0) std::abort();
    return 0;
}
