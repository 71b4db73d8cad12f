// The time of the algebra without a server: 1 M users, about 24 M visits over 365 days (an argument scales
// the users). g++ -std=c++17 -O2 -Isrc test/bench/bitmap_bench.cpp src/bitmap*.cpp -o build/bitmap_bench &&
// build/bitmap_bench

#include "bitmap/algebra.hpp"
#include "bitmap/kernels.hpp"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

using namespace mau::bitmap;

namespace {

constexpr std::size_t kDays = 365;
constexpr std::size_t kWeeks = 52;

struct Stopwatch {
    std::chrono::steady_clock::time_point start;
    double total = 0;
    void go() { start = std::chrono::steady_clock::now(); }
    void stop() {
        total += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    }
};

void days_active(const BitRows& days, std::size_t from, const BitRows& scratch, std::int64_t* counts) {
    const DayCounts active(scratch, kDays - from);
    active.clear();
    active.add(days, from, kDays);
    active.histogram(counts);
}

// Few users come daily, most come seldom: rates are a power of a uniform number, 6.6 % of the days on
// average.
void generate(std::size_t chunks, std::vector<std::vector<std::uint8_t>>& encoded, std::size_t& visits) {
    std::mt19937_64 random(1);
    std::vector<std::uint32_t> rate(kUsers);
    std::vector<Bits> days(kDays);
    for (std::size_t c = 0; c < chunks; ++c) {
        for (auto& r : rate)
            r = static_cast<std::uint32_t>(std::pow(static_cast<double>(random() >> 11) * 0x1p-53, 14.2) *
                                           4294967295.0);
        for (auto& day : days) {
            day.clear();
            for (std::size_t u = 0; u < kUsers; ++u)
                if (static_cast<std::uint32_t>(random() >> 32) < rate[u])
                    day.set(static_cast<std::uint16_t>(u));
            std::uint8_t out[encoded_size(kUsers)];
            const std::size_t size = encode(day, key_of(c), out);
            encoded.emplace_back(out, out + size);
            visits += day.count();
        }
    }
}

void run(const char* name, std::size_t chunks, const std::vector<std::vector<std::uint8_t>>& encoded) {
    std::vector<Bits> memory(kDays), scratch_memory(400), cohorts(kWeeks), weeks(kWeeks);
    const BitRows days(memory.data(), memory.size()), scratch(scratch_memory.data(), scratch_memory.size());
    std::vector<std::int64_t> counts(kDays), histogram(kDays + 1), table(kWeeks * kWeeks);
    std::vector<Growth> growth(kDays);
    Stopwatch decoding, series, at_least, growing, r30, r30_once, active_days, month, retained;
    double longest = 0;
    for (std::size_t c = 0; c < chunks; ++c) {
        decoding.go();
        days.clear();
        for (std::size_t d = 0; d < kDays; ++d) {
            const auto& bytes = encoded[c * kDays + d];
            if (!bytes.empty()) decode(bytes.data(), bytes.size(), key_of(c), days[d]);
        }
        decoding.stop();
        for (auto& cohort : cohorts) cohort.clear();
        for (std::size_t u = 0; u < kUsers; ++u)
            cohorts[(c * kUsers + u) * kWeeks / (chunks * kUsers)].set(static_cast<std::uint16_t>(u));

        const double before = series.total;
        series.go();
        for (const std::size_t window : {1, 7, 30})
            rolling(days, 0, kDays, window, 1, scratch, counts.data());
        series.stop();
        longest = std::max(longest, series.total - before);
        at_least.go();
        rolling(days, 0, kDays, 30, 3, scratch, counts.data());
        at_least.stop();
        growing.go();
        grow(days, 0, kDays, 30, 1, nullptr, scratch, growth.data());
        growing.stop();
        r30.go();
        returning(days, 0, kDays, Span{}, scratch, counts.data());
        r30.stop();
        r30_once.go();
        returning(days, kDays - 1, kDays, Span{}, scratch, counts.data());
        r30_once.stop();
        active_days.go();
        days_active(days, 0, scratch, histogram.data());
        active_days.stop();
        month.go();
        days_active(days, kDays - 30, scratch, histogram.data());
        month.stop();
        retained.go();
        for (std::size_t w = 0; w < kWeeks; ++w) unite(days, w * 7, w * 7 + 7, weeks[w]);
        retention(BitRows(cohorts.data(), kWeeks), BitRows(weeks.data(), kWeeks), table.data());
        retained.stop();
    }
    std::printf(
        "%-9s decode %6.1f  dau+wau+mau %6.1f (a chunk %.2f)  mau of 3+ days %6.1f  growth %6.1f  r30v2 "
        "%6.1f, one day "
        "%5.1f  days active: year %5.1f, month %5.1f  retention %5.1f ms\n",
        name, decoding.total, series.total, longest, at_least.total, growing.total, r30.total, r30_once.total,
        active_days.total, month.total, retained.total);
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t users = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
    const std::size_t chunks = (users + kUsers - 1) / kUsers;
    std::vector<std::vector<std::uint8_t>> encoded;
    std::size_t visits = 0;
    std::size_t bytes = 0;
    generate(chunks, encoded, visits);
    for (const auto& one : encoded) bytes += one.size();
    std::printf("%zu chunks, %zu visits, %zu days, %.1f MB, %.2f bytes a visit\n", chunks, visits, kDays,
                static_cast<double>(bytes) / 1e6, static_cast<double>(bytes) / static_cast<double>(visits));
    for (int i = 0; i < 3; ++i) run("best", chunks, encoded);
    force_portable(true);
    run("portable", chunks, encoded);
}
