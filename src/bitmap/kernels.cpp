#define MAU_PURE_SOURCE
#include "bitmap/kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mau::bitmap {

namespace {

// Values to compute with, and the same in a row's memory: there they are aligned like a word only, and may
// alias. The latter are read and written by value; with a reference the compiler would assume the former's
// alignment.
typedef Word Lane __attribute__((vector_size(32)));
typedef Word LaneInRow __attribute__((vector_size(32), aligned(8), may_alias));
typedef std::uint16_t ValuesInArray __attribute__((vector_size(32), aligned(2), may_alias));
typedef std::int16_t Verdict __attribute__((vector_size(32)));

constexpr std::size_t kLaneWords = sizeof(Lane) / sizeof(Word);
constexpr std::size_t kLanes = kWords / kLaneWords;
constexpr std::size_t kLaneValues = sizeof(ValuesInArray) / sizeof(std::uint16_t);

inline LaneInRow* lanes(Word* words) {
    return reinterpret_cast<LaneInRow*>(words);
}
inline const LaneInRow* lanes(const Word* words) {
    return reinterpret_cast<const LaneInRow*>(words);
}
inline const ValuesInArray* values_at(const std::uint16_t* values) {
    return reinterpret_cast<const ValuesInArray*>(values);
}

namespace portable {
#define MAU_KERNEL
#define MAU_INLINE inline
#include "bitmap/kernels.inc"
#undef MAU_INLINE
#undef MAU_KERNEL
}  // namespace portable

#if defined(__x86_64__)
namespace avx2 {
#define MAU_KERNEL_AVX2
#define MAU_KERNEL __attribute__((target("avx2,popcnt")))
#define MAU_INLINE __attribute__((target("avx2,popcnt"), always_inline)) inline
#include "bitmap/kernels.inc"
#undef MAU_INLINE
#undef MAU_KERNEL
#undef MAU_KERNEL_AVX2
}  // namespace avx2
#endif

const Kernels* best() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) return &avx2::table;
#endif
    return &portable::table;
}

const Kernels* chosen = best();

}  // namespace

const Kernels& kernels() {
    return *chosen;
}

void force_portable(bool portable) {
    chosen = portable ? &portable::table : best();
}

}  // namespace mau::bitmap
