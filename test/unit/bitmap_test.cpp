// The algebra against the obvious answer on std::set, with both sets of kernels. MAU_SEED repeats a run.

#include "bitmap/algebra.hpp"
#include "bitmap/kernels.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace mau::bitmap {
namespace {

using Users = std::set<std::uint16_t>;
using Bytes = std::vector<std::uint8_t>;

std::uint64_t seed() {
    static const std::uint64_t value = [] {
        const char* given = std::getenv("MAU_SEED");
        const std::uint64_t s = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
        std::printf("MAU_SEED=%llu\n", static_cast<unsigned long long>(s));
        return s;
    }();
    return value;
}

// Rows aligned to 8 bytes and to nothing better, as a backend's memory may be.
struct Memory {
    explicit Memory(std::size_t rows)
        : words(new std::uint64_t[rows * kWords + 8]()), view(misaligned(), rows) {}
    void* misaligned() {
        return words.get() + (reinterpret_cast<std::uintptr_t>(words.get()) / 8 % 2 == 0 ? 1 : 0);
    }
    std::unique_ptr<std::uint64_t[]> words;
    BitRows view;
};

Bits bits_of(const Users& users) {
    Bits bits{};
    for (const auto user : users) bits.set(user);
    return bits;
}

Users users_of(const Bits& bits) {
    Users users;
    bits.for_each([&](std::uint16_t user) { users.insert(users.end(), user); });
    return users;
}

/// On how many of the rows [from, to) each user was active.
void days_active(const BitRows& days, std::size_t from, std::size_t to, const BitRows& scratch,
                 std::int64_t* counts) {
    const DayCounts active(scratch, to - from);
    active.clear();
    active.add(days, from, to);
    active.histogram(counts);
}

Bytes encoded(const Bits& bits, std::uint16_t key = 0) {
    Bytes out(encoded_size(kUsers));
    out.resize(encode(bits, key, out.data()));
    return out;
}

Users first_users(std::size_t n, std::size_t step = 1) {
    Users users;
    for (std::size_t i = 0; i < n; ++i) users.insert(static_cast<std::uint16_t>(i * step));
    return users;
}

// Every test runs with the processor's best kernels and with the portable ones.
class Bitmap : public testing::TestWithParam<bool> {
  protected:
    void SetUp() override { force_portable(GetParam()); }
    void TearDown() override { force_portable(false); }
    std::mt19937_64 random{seed()};

    std::size_t below(std::size_t n) { return random() % n; }

    Users some_users(std::size_t n) {
        Users users;
        while (users.size() < n) users.insert(static_cast<std::uint16_t>(random()));
        return users;
    }
};

INSTANTIATE_TEST_SUITE_P(Kernels, Bitmap, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "portable" : "best"; });

// --- Codec

// Bytes worked out by hand from the RoaringFormatSpec.
TEST_P(Bitmap, ArrayIsPortableRoaring) {
    const Bytes expected = {0x3a, 0x30, 0, 0, 1, 0, 0, 0,    0x07, 0x01, 2,
                            0,    16,   0, 0, 0, 1, 0, 0x02, 0x01, 0xff, 0xff};
    EXPECT_EQ(encoded(bits_of({1, 258, 65535}), 0x0107), expected);
    Bits back{};
    EXPECT_EQ(decode(expected.data(), expected.size(), 0x0107, back), 3u);
    EXPECT_EQ(users_of(back), (Users{1, 258, 65535}));
}

TEST_P(Bitmap, BitsetIsPortableRoaring) {
    Bits bits = bits_of(first_users(4096, 16));
    bits.set(65535);
    const Bytes bytes = encoded(bits, 0);
    Bytes expected = {0x3a, 0x30, 0, 0, 1, 0, 0, 0, 0, 0, 0x00, 0x10, 16, 0, 0, 0};
    for (std::size_t i = 0; i < kBitsetBytes; ++i) expected.push_back(i % 2 == 0 ? 1 : 0);
    expected.back() = 0x80;
    EXPECT_EQ(bytes, expected);
}

TEST_P(Bitmap, EveryCardinalityComesBack) {
    for (const std::size_t n :
         {0u, 1u, 2u, 15u, 16u, 17u, 33u, 4095u, 4096u, 4097u, 30000u, 65535u, 65536u}) {
        const Bits bits = bits_of(n > 60000 ? first_users(n) : some_users(n));
        const Bytes bytes = encoded(bits, 9);
        ASSERT_EQ(bits.count(), n);
        ASSERT_EQ(bytes.size(), encoded_size(n));
        ASSERT_EQ(bytes.size(), n == 0 ? 0 : n <= 4096 ? 16 + 2 * n : 16 + 8192);
        if (n == 0) continue;
        // From an odd address: a bytea's contents are not aligned.
        Bytes shifted(bytes.size() + 1);
        std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
        Bits back{};
        ASSERT_EQ(decode(shifted.data() + 1, bytes.size(), 9, back), n);
        ASSERT_EQ(users_of(back), users_of(bits));
    }
}

TEST_P(Bitmap, DecodingAddsAndKeepsOnlyTheMask) {
    for (const std::size_t n : {1u, 7u, 1000u, 4096u, 20000u}) {
        const Users stored = some_users(n), before = some_users(500), mask = some_users(9000);
        const Bytes bytes = encoded(bits_of(stored));
        const Bits keep = bits_of(mask);
        Bits into = bits_of(before);
        Users expected = before;
        for (const auto user : stored)
            if (mask.count(user) != 0) expected.insert(user);
        EXPECT_EQ(decode(bytes.data(), bytes.size(), 0, into, &keep), n);
        EXPECT_EQ(users_of(into), expected);
    }
}

// The error of decoding the bytes; "" if it accepts them. Refused bytes must leave the row as it was.
std::string complaint(const Bytes& bytes, std::uint16_t key = 0) {
    const Bits before = bits_of({3, 5000});
    Bits into = before;
    // An exact copy on the heap, so that a sanitizer sees a read past its end.
    const std::unique_ptr<std::uint8_t[]> copy(new std::uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), copy.get());
    try {
        decode(copy.get(), bytes.size(), key, into);
    } catch (const CorruptBitmap& e) {
        EXPECT_EQ(users_of(into), users_of(before));
        return e.what();
    }
    return "";
}

TEST_P(Bitmap, CorruptBytesAreNamed) {
    const Bytes array = encoded(bits_of({1, 2, 300}));
    const Bytes bitset = encoded(bits_of(first_users(5000)));
    const auto with = [](Bytes bytes, std::size_t at, std::uint8_t value) {
        bytes[at] = value;
        return bytes;
    };
    const auto resized = [](Bytes bytes, std::size_t size) {
        bytes.resize(size);
        return bytes;
    };
    EXPECT_EQ(complaint(array), "");
    EXPECT_EQ(complaint(bitset), "");
    EXPECT_EQ(complaint({}), "length 0, expected 16");
    EXPECT_EQ(complaint(resized(array, 15)), "length 15, expected 16");
    EXPECT_EQ(complaint(with(array, 0, 0x3b)), "cookie 12347, expected 12346");
    EXPECT_EQ(complaint(with(array, 2, 1)), "cookie 77882, expected 12346");
    EXPECT_EQ(complaint(with(array, 4, 2)), "number of containers 2, expected 1");
    EXPECT_EQ(complaint(with(array, 7, 1)), "number of containers 16777217, expected 1");
    EXPECT_EQ(complaint(array, 4), "key 0, expected 4");
    EXPECT_EQ(complaint(with(array, 12, 15)), "container offset 15, expected 16");
    EXPECT_EQ(complaint(with(array, 10, 1)), "length 22, expected 20");
    EXPECT_EQ(complaint(with(array, 11, 0x10)), "length 22, expected 8208");
    EXPECT_EQ(complaint(resized(array, 16)), "length 16, expected 22");
    EXPECT_EQ(complaint(resized(array, 21)), "length 21, expected 22");
    EXPECT_EQ(complaint(resized(array, 23)), "length 23, expected 22");
    EXPECT_EQ(complaint(with(array, 18, 1)), "users are not in ascending order");
    EXPECT_EQ(complaint(with(array, 18, 0)), "users are not in ascending order");
    EXPECT_EQ(complaint(with(bitset, 8207, 1)), "users in the bitset: 5001, expected 5000");
    EXPECT_EQ(complaint(with(bitset, 10, 0x88)), "users in the bitset: 5000, expected 5001");
    EXPECT_EQ(complaint(resized(bitset, 8207)), "length 8207, expected 8208");
    EXPECT_EQ(complaint(resized(bitset, 8209)), "length 8209, expected 8208");
    // The wrong container: an array where a bitset belongs, and a bitset of 4096 users, as long as the array
    // would be.
    Bytes long_array = resized(encoded(bits_of(first_users(4096))), 16 + 2 * 4097);
    EXPECT_EQ(complaint(with(with(long_array, 10, 0), 11, 0x10)), "length 8210, expected 8208");
    Bytes short_bitset = with(with(bitset, 10, 0xff), 11, 0x0f);
    EXPECT_EQ(complaint(short_bitset), "users are not in ascending order");
}

TEST_P(Bitmap, DisorderIsFoundAnywhere) {
    for (const std::size_t n : {2u, 16u, 17u, 18u, 31u, 32u, 33u, 50u, 4096u}) {
        const Bytes good = encoded(bits_of(first_users(n, 3)));
        for (std::size_t i = 1; i<n; i += n> 100 ? 37 : 1) {
            Bytes twice = good;
            std::copy_n(good.begin() + static_cast<std::ptrdiff_t>(16 + 2 * (i - 1)), 2,
                        twice.begin() + static_cast<std::ptrdiff_t>(16 + 2 * i));
            ASSERT_EQ(complaint(twice), "users are not in ascending order") << n << " " << i;
        }
    }
}

TEST_P(Bitmap, SetOperations) {
    const Users a = some_users(3000), b = some_users(40000);
    Users both, either = a, rest;
    for (const auto user : a) (b.count(user) != 0 ? both : rest).insert(user);
    either.insert(b.begin(), b.end());
    EXPECT_EQ(users_of(Bits(bits_of(a)) |= bits_of(b)), either);
    EXPECT_EQ(users_of(Bits(bits_of(a)) &= bits_of(b)), both);
    EXPECT_EQ(users_of(Bits(bits_of(a)) -= bits_of(b)), rest);
    Bits bits = bits_of(a);
    EXPECT_TRUE(bits.test(*a.rbegin()));
    bits.reset(*a.rbegin());
    EXPECT_FALSE(bits.test(*a.rbegin()));
    EXPECT_EQ(bits.count(), a.size() - 1);
    bits.fill();
    EXPECT_EQ(bits.count(), kUsers);
    bits.clear();
    EXPECT_EQ(bits.count(), 0u);
    EXPECT_EQ(key_of(0x12345), 0x2345);
}

// --- Algebra

// Days of a few users, some of them empty, in both forms. The last user of the chunk and the first are always
// among them.
struct Days {
    std::vector<Users> sets;
    Memory rows;

    Days(std::mt19937_64& random, std::size_t days, std::size_t users) : sets(days), rows(days) {
        Users population = {0, 65535};
        while (population.size() < users) population.insert(static_cast<std::uint16_t>(random()));
        for (const auto user : population) {
            const std::uint64_t rate = random() % 64;
            const std::size_t joined = random() % (days + 1);
            for (std::size_t d = joined; d < days; ++d)
                if (random() % 128 < rate && d % 29 != 3) sets[d].insert(user);
        }
        // A gap longer than a window, so that all users churn and come back.
        if (days > 150)
            for (std::size_t d = 100; d < 140; ++d) sets[d].clear();
        for (std::size_t d = 0; d < days; ++d) rows.view[d] = bits_of(sets[d]);
    }

    // On how many of the days from..to each user was active; days outside the rows are empty.
    std::map<std::uint16_t, std::size_t> tally(std::ptrdiff_t from, std::ptrdiff_t to) const {
        std::map<std::uint16_t, std::size_t> seen;
        for (auto d = std::max<std::ptrdiff_t>(from, 0);
             d <= to && d < static_cast<std::ptrdiff_t>(sets.size()); ++d)
            for (const auto user : sets[static_cast<std::size_t>(d)]) ++seen[user];
        return seen;
    }

    Users active(std::ptrdiff_t from, std::ptrdiff_t to, std::size_t min_days = 1) const {
        Users users;
        for (const auto& [user, n] : tally(from, to))
            if (n >= min_days) users.insert(user);
        return users;
    }
};

std::int64_t size(const Users& users) {
    return static_cast<std::int64_t>(users.size());
}

template <class Keep>
std::int64_t count_if(const Users& users, Keep keep) {
    return std::count_if(users.begin(), users.end(), keep);
}

TEST_P(Bitmap, RollingWindows) {
    const Days days(random, 200, 60);
    for (const std::size_t window : {1u, 2u, 7u, 30u, 31u, 199u, 200u, 365u})
        for (const std::size_t min_days : {1u, 2u, 3u, 8u, 40u})
            for (const std::size_t from : {std::size_t{0}, std::size_t{29}, below(200)}) {
                const std::size_t to = from + below(201 - from);
                const Memory scratch(rolling_scratch(window, min_days));
                std::vector<std::int64_t> counts(to - from, 1000);
                rolling(days.rows.view, from, to, window, min_days, scratch.view, counts.data());
                for (std::size_t t = from; t < to; ++t) {
                    const auto end = static_cast<std::ptrdiff_t>(t);
                    ASSERT_EQ(counts[t - from],
                              1000 + size(days.active(end - static_cast<std::ptrdiff_t>(window) + 1, end,
                                                      min_days)))
                        << "day " << t << " from " << from << " window " << window << " min " << min_days;
                }
            }
}

TEST_P(Bitmap, Growth) {
    const Days days(random, 260, 60);
    Users ever = {0, 7};
    for (const auto user : days.active(0, 259))
        if (user % 5 == 0) ever.insert(user);
    const Bits ever_bits = bits_of(ever);
    for (const std::size_t window : {1u, 7u, 30u, 100u})
        for (const std::size_t min_days : {1u, 3u})
            for (const bool know_ever : {false, true})
                for (const std::size_t from :
                     {std::size_t{0}, std::size_t{15}, std::size_t{60}, below(260)}) {
                    const std::size_t to = from + below(261 - from);
                    const Memory scratch(grow_scratch(window, min_days));
                    std::vector<Growth> growth(to - from, bitmap::Growth{10, 20, 30, 40});
                    grow(days.rows.view, from, to, window, min_days, know_ever ? &ever_bits : nullptr,
                         scratch.view, growth.data());
                    const auto w = static_cast<std::ptrdiff_t>(window);
                    for (std::size_t row = from; row < to; ++row) {
                        const auto t = static_cast<std::ptrdiff_t>(row);
                        const Users now = days.active(t - w + 1, t, min_days);
                        const Users before = days.active(t - 2 * w + 1, t - w, min_days);
                        Users known = days.active(0, t - w);
                        if (know_ever) known.insert(ever.begin(), ever.end());
                        const auto in = [](const Users& set) {
                            return [&](auto user) { return set.count(user) != 0; };
                        };
                        const auto& g = growth[row - from];
                        ASSERT_EQ(g.arrived - 10, count_if(now, [&](auto u) { return !in(known)(u); })) << t;
                        ASSERT_EQ(g.retained - 20, count_if(now, in(before))) << t;
                        ASSERT_EQ(g.resurrected - 30,
                                  count_if(now, [&](auto u) { return in(known)(u) && !in(before)(u); }))
                            << t;
                        ASSERT_EQ(g.churned - 40, count_if(before, [&](auto u) { return !in(now)(u); })) << t;
                        ASSERT_EQ(size(now),
                                  size(before) + g.arrived - 10 + g.resurrected - 30 - (g.churned - 40));
                    }
                }
}

TEST_P(Bitmap, FirstSeen) {
    const Days days(random, 120, 80);
    Users known = {0, 65535};
    Bits ever = bits_of(known);
    std::vector<std::int64_t> counts(100, 5);
    first_seen(days.rows.view, 20, 120, ever, counts.data());
    for (std::size_t d = 20; d < 120; ++d) {
        const auto before = known.size();
        known.insert(days.sets[d].begin(), days.sets[d].end());
        ASSERT_EQ(counts[d - 20], 5 + static_cast<std::int64_t>(known.size() - before));
    }
    EXPECT_EQ(users_of(ever), known);
}

TEST_P(Bitmap, Returning) {
    const Days days(random, 220, 60);
    for (const Span span : {Span{}, Span{59, 0, 31}, Span{59, 1, 1}, Span{31, 0, 31}, Span{30, 0, 31},
                            Span{6, 3, 2}, Span{400, 0, 100}, Span{10, 0, 10}})
        for (const std::size_t from : {std::size_t{0}, std::size_t{70}, below(220)}) {
            const std::size_t to = from + below(221 - from);
            const Memory scratch(returning_scratch(span));
            std::vector<std::int64_t> counts(to - from, 3);
            returning(days.rows.view, from, to, span, scratch.view, counts.data());
            for (std::size_t row = from; row < to; ++row) {
                const auto t = static_cast<std::ptrdiff_t>(row);
                const auto first = std::max<std::ptrdiff_t>(0, t - static_cast<std::ptrdiff_t>(span.back));
                const auto last = std::min<std::ptrdiff_t>(219, t + static_cast<std::ptrdiff_t>(span.ahead));
                std::map<std::uint16_t, std::pair<std::ptrdiff_t, std::ptrdiff_t>> ends;
                for (auto d = first; d <= last; ++d)
                    for (const auto user : days.sets[static_cast<std::size_t>(d)])
                        ends.try_emplace(user, d, d).first->second.second = d;
                std::int64_t expected = 3;
                for (const auto& [user, range] : ends)
                    if (range.second - range.first >= static_cast<std::ptrdiff_t>(span.apart)) ++expected;
                ASSERT_EQ(counts[row - from], expected)
                    << t << ": " << span.back << " " << span.ahead << " " << span.apart;
            }
        }
}

// The edges one by one: 30 days between two visits are too few, 31 enough, the 60th day back is outside.
TEST_P(Bitmap, ReturningAtTheReferencesEdges) {
    const Memory rows(70);
    const Memory scratch(returning_scratch(Span{}));
    const auto r30v2 = [&](std::size_t a, std::size_t b, const Span& span) {
        rows.view.clear();
        rows.view[a].set(12345);
        rows.view[b].set(12345);
        std::int64_t count = 0;
        returning(rows.view, 65, 66, span, scratch.view, &count);
        return count;
    };
    EXPECT_EQ(r30v2(35, 65, Span{}), 0);
    EXPECT_EQ(r30v2(34, 65, Span{}), 1);
    EXPECT_EQ(r30v2(6, 37, Span{}), 1);
    EXPECT_EQ(r30v2(5, 65, Span{}), 0);
    EXPECT_EQ(r30v2(35, 66, Span{}), 1);
    EXPECT_EQ(r30v2(35, 66, (Span{59, 0, 31})), 0);
    EXPECT_EQ(r30v2(34, 67, Span{}), 0);
}

TEST_P(Bitmap, DaysActive) {
    const Days days(random, 300, 60);
    for (const std::size_t n : {0u, 1u, 2u, 7u, 8u, 9u, 15u, 16u, 30u, 255u, 256u, 300u}) {
        const std::size_t from = below(301 - n);
        const auto first = static_cast<std::ptrdiff_t>(from),
                   last = static_cast<std::ptrdiff_t>(from + n) - 1;
        const Memory scratch(days_active_scratch(n));
        std::vector<std::int64_t> counts(n + 1, 2), expected(n + 1, 2);
        days_active(days.rows.view, from, from + n, scratch.view, counts.data());
        for (const auto& [user, k] : days.tally(first, last)) ++expected[k];
        ASSERT_EQ(counts, expected) << n;
        for (const std::size_t k : {1u, 2u, 3u, 7u, 8u, 100u, 300u, 5000u}) {
            Bits out;
            const Users users = days.active(first, last, k);
            ASSERT_EQ(active_at_least(days.rows.view, from, from + n, k, scratch.view, out), users.size());
            ASSERT_EQ(users_of(out), users);
        }
        Bits out;
        unite(days.rows.view, from, from + n, out);
        ASSERT_EQ(users_of(out), days.active(first, last));
    }
}

TEST_P(Bitmap, Retention) {
    const Days days(random, 70, 200);
    const Memory cohorts(12), periods(10);
    std::vector<Users> cohort_sets(12), period_sets(10);
    // Contiguous cohorts, as registration makes them; an empty one; the outermost users; a scattered one.
    for (std::size_t c = 0; c < 9; ++c)
        for (std::size_t u = c * 7000; u < c * 7000 + 7000; ++u)
            cohort_sets[c].insert(static_cast<std::uint16_t>(u));
    cohort_sets[10] = {0, 65535};
    cohort_sets[11] = some_users(20000);
    for (std::size_t c = 0; c < 12; ++c) cohorts.view[c] = bits_of(cohort_sets[c]);
    for (std::size_t p = 0; p < 10; ++p) {
        unite(days.rows.view, p * 7, p * 7 + 7, periods.view[p]);
        period_sets[p] =
            days.active(static_cast<std::ptrdiff_t>(p * 7), static_cast<std::ptrdiff_t>(p * 7 + 6));
    }
    std::vector<std::int64_t> counts(120, 4);
    retention(cohorts.view, periods.view, counts.data());
    for (std::size_t c = 0; c < 12; ++c)
        for (std::size_t p = 0; p < 10; ++p)
            ASSERT_EQ(counts[c * 10 + p],
                      4 + count_if(period_sets[p], [&](auto u) { return cohort_sets[c].count(u) != 0; }))
                << c << " " << p;
}

// A full chunk, active every day, and a single user: the counters must neither overflow nor miss.
TEST_P(Bitmap, EverybodyEveryDay) {
    const Memory rows(64), scratch(100);
    for (std::size_t d = 0; d < 64; ++d) rows.view[d].fill();
    std::vector<std::int64_t> counts(65);
    days_active(rows.view, 0, 64, scratch.view, counts.data());
    EXPECT_EQ(counts[64], 65536);
    EXPECT_EQ(std::count(counts.begin(), counts.end(), 0), 64);
    std::fill(counts.begin(), counts.end(), 0);
    rolling(rows.view, 0, 64, 30, 30, scratch.view, counts.data());
    EXPECT_EQ(counts[28], 0);
    EXPECT_EQ(counts[29], 65536);
    EXPECT_EQ(counts[63], 65536);
    std::vector<bitmap::Growth> growth(64);
    grow(rows.view, 0, 64, 30, 1, nullptr, scratch.view, growth.data());
    EXPECT_EQ(growth[0].arrived, 65536);
    EXPECT_EQ(growth[63].retained, 65536);
    EXPECT_EQ(growth[63].active(), 65536);
    EXPECT_EQ(growth[63].churned, 0);
}

TEST_P(Bitmap, NoDaysAtAll) {
    const BitRows none(nullptr, 0);
    const Memory scratch(100);
    Bits out;
    unite(none, 0, 0, out);
    EXPECT_EQ(out.count(), 0u);
    rolling(none, 0, 0, 30, 1, scratch.view, nullptr);
    rolling(none, 0, 0, 30, 2, scratch.view, nullptr);
    grow(none, 0, 0, 30, 1, nullptr, scratch.view, nullptr);
    returning(none, 0, 0, Span{}, scratch.view, nullptr);
    days_active(none, 0, 0, scratch.view, nullptr);
    EXPECT_EQ(active_at_least(none, 0, 0, 1, scratch.view, out), 0u);
    retention(none, none, nullptr);
    none.clear();
}

TEST_P(Bitmap, WrongArgumentsAreRefused) {
    const Memory rows(10), scratch(100);
    std::int64_t counts[20];
    bitmap::Growth growth[20];
    Bits out;
    EXPECT_THROW(unite(rows.view, 0, 11, out), std::invalid_argument);
    EXPECT_THROW(unite(rows.view, 5, 4, out), std::invalid_argument);
    EXPECT_THROW(rolling(rows.view, 0, 11, 7, 1, scratch.view, counts), std::invalid_argument);
    EXPECT_THROW(rolling(rows.view, 0, 10, 0, 1, scratch.view, counts), std::invalid_argument);
    EXPECT_THROW(rolling(rows.view, 0, 10, 7, 0, scratch.view, counts), std::invalid_argument);
    EXPECT_THROW(grow(rows.view, 0, 10, 0, 1, nullptr, scratch.view, growth), std::invalid_argument);
    EXPECT_THROW(first_seen(rows.view, 0, 11, out, counts), std::invalid_argument);
    EXPECT_THROW(returning(rows.view, 0, 10, (Span{59, 1, 0}), scratch.view, counts), std::invalid_argument);
    EXPECT_THROW(active_at_least(rows.view, 0, 10, 0, scratch.view, out), std::invalid_argument);
    const auto short_by_one = [&](std::size_t needed) { return BitRows(&scratch.view[0], needed - 1); };
    EXPECT_THROW(rolling(rows.view, 0, 10, 7, 1, short_by_one(rolling_scratch(7, 1)), counts),
                 std::invalid_argument);
    EXPECT_THROW(rolling(rows.view, 0, 10, 7, 2, short_by_one(rolling_scratch(7, 2)), counts),
                 std::invalid_argument);
    EXPECT_THROW(grow(rows.view, 0, 10, 7, 1, nullptr, short_by_one(grow_scratch(7, 1)), growth),
                 std::invalid_argument);
    EXPECT_THROW(returning(rows.view, 0, 10, Span{}, short_by_one(returning_scratch(Span{})), counts),
                 std::invalid_argument);
    EXPECT_THROW(days_active(rows.view, 0, 10, short_by_one(days_active_scratch(10)), counts),
                 std::invalid_argument);
}

// The whole way of a question over more than one chunk: users on both sides of a border, bytes, mask, sums.
TEST_P(Bitmap, ChunksAddUp) {
    constexpr std::size_t kDays = 90;
    std::map<std::size_t, std::set<std::uint32_t>> visits;
    for (std::uint32_t user = 65536 - 40; user < 65536 + 40; ++user)
        for (std::size_t d = 0; d < kDays; ++d)
            if (below(12) == 0) visits[d].insert(user);
    const auto is_guest = [](std::uint32_t user) { return user % 7 == 0; };

    const Memory rows(kDays), scratch(rolling_scratch(30, 1));
    std::vector<std::int64_t> mau(kDays);
    for (std::uint32_t chunk = 0; chunk < 2; ++chunk) {
        Bits keep;
        keep.fill();
        for (std::uint32_t u = 0; u < kUsers; ++u)
            if (is_guest(chunk * 65536 + u)) keep.reset(static_cast<std::uint16_t>(u));
        rows.view.clear();
        for (const auto& [d, users] : visits) {
            // Two platforms a day, two encoded rows.
            for (const std::uint32_t platform : {0u, 1u}) {
                Bits bits{};
                for (const auto user : users)
                    if (user >> 16 == chunk && user % 2 == platform)
                        bits.set(static_cast<std::uint16_t>(user));
                const Bytes bytes = encoded(bits, key_of(chunk));
                if (!bytes.empty()) decode(bytes.data(), bytes.size(), key_of(chunk), rows.view[d], &keep);
            }
        }
        rolling(rows.view, 0, kDays, 30, 1, scratch.view, mau.data());
    }
    for (std::size_t t = 0; t < kDays; ++t) {
        std::set<std::uint32_t> users;
        for (std::size_t d = t < 29 ? 0 : t - 29; d <= t; ++d)
            for (const auto user : visits[d])
                if (!is_guest(user)) users.insert(user);
        ASSERT_EQ(mau[t], static_cast<std::int64_t>(users.size()));
    }
}

}  // namespace
}  // namespace mau::bitmap
