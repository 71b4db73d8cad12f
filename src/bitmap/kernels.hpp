#pragma once

// The inner loops of the algebra. Each is written once (bitmap/kernels.inc) and compiled twice: for any
// processor, and for AVX2, chosen when the library is loaded. All of them work on whole rows.

#include "base/pure.hpp"

#include "bitmap/bitmap.hpp"

namespace mau::bitmap {

using Word = std::uint64_t;

struct Kernels {
    void (*unite)(Word* to, const Word* with);
    void (*intersect)(Word* to, const Word* with);
    void (*subtract)(Word* to, const Word* with);
    void (*unite_to)(Word* to, const Word* a, const Word* b);

    std::int64_t (*count)(const Word* a);
    /// Counts a & b in words [from, to), which are multiples of 4.
    std::int64_t (*count_both)(const Word* a, const Word* b, std::size_t from, std::size_t to);
    /// Counts a & b and a & c.
    void (*count_two)(const Word* a, const Word* b, const Word* c, std::int64_t* both);
    /// Splits a into the users in b and the others, and counts them.
    void (*split)(const Word* a, const Word* b, Word* in, Word* out, std::int64_t* counts);

    /// One step of a rolling window: adds the day to the prefix and counts (and stores, if wanted) prefix |
    /// suffix.
    std::int64_t (*slide)(Word* prefix, const Word* day, const Word* suffix, Word* active);

    /// See `returning` in bitmap/algebra.cpp for both.
    void (*span_suffix)(const Word* early, const Word* late, Word* lates, const Word* earlies,
                        const Word* pairs, Word* earlies_out, Word* pairs_out);
    std::int64_t (*span_step)(const Word* early, const Word* late, Word* earlies, Word* lates, Word* pairs,
                              const Word* suffix_earlies, const Word* suffix_pairs);

    /// Bit-sliced counters: plane p holds bit p of every user's count.
    void (*counter_add)(Word* planes, std::size_t n, const Word* day);
    void (*counter_add8)(Word* planes, std::size_t n, const Word* days);
    void (*counter_subtract)(Word* planes, std::size_t n, const Word* day);
    std::int64_t (*counter_at_least)(const Word* planes, std::size_t n, std::size_t k, Word* out);

    bool (*ascending)(const std::uint16_t* values, std::size_t n);
};

const Kernels& kernels();

/// For tests: uses the portable loops from now on (true), or the best ones for this processor (false).
void force_portable(bool portable);

}  // namespace mau::bitmap
