// Users are found again by their hash, memory is bounded, and a full table forgets some users, not all.
#include <gtest/gtest.h>

#include "source/known_users.hpp"

namespace mau::source {
namespace {

/// A hash as good as random (splitmix64).
std::uint64_t mix(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

UserHash hash(std::int64_t user) {
    return {mix(static_cast<std::uint64_t>(user)), mix(~static_cast<std::uint64_t>(user))};
}

/// The share of `users` users that are found after all were met.
double found_of(std::int64_t users, std::size_t max_bytes = KnownUsers::kMaxBytes) {
    KnownUsers known(users, max_bytes);
    std::int64_t found = 0, wrong = 0;
    for (std::int64_t i = 0; i < users; ++i)
        if (!known.find(hash(i))) known.add(hash(i), {i, static_cast<std::uint32_t>(i % 3)});
    for (std::int64_t i = 0; i < users; ++i) {
        const auto user = known.find(hash(i));
        if (!user) continue;
        ++found;
        wrong += user->number != i || user->service != static_cast<std::uint32_t>(i % 3);
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_LE(known.bytes(), max_bytes);
    return static_cast<double>(found) / static_cast<double>(users);
}

TEST(KnownUsers, AreFoundAgain) {
    EXPECT_EQ(found_of(1), 1);
    EXPECT_GT(found_of(1000), 0.9);
    EXPECT_GT(found_of(100000), 0.9);
}

TEST(KnownUsers, OfAFullTableAreForgottenOneByOne) {
    constexpr std::size_t kMegabyte = 1 << 20;  // 65 536 entries
    EXPECT_GT(found_of(65536, kMegabyte), 0.75);
    EXPECT_GT(found_of(131072, kMegabyte), 0.45);
}

TEST(KnownUsers, TakeLittleMemoryWhereTheyAreFew) {
    EXPECT_LE(KnownUsers(0).bytes(), 64U);
    EXPECT_LE(KnownUsers(1000).bytes(), 32768U);
    EXPECT_EQ(KnownUsers(std::int64_t{1} << 45).bytes(), KnownUsers::kMaxBytes);
}

TEST(KnownUsers, KeepTheWholeNumber) {
    KnownUsers known(100);
    const std::int64_t last = (std::int64_t{1} << 40) - 3;
    known.add(hash(1), {-1, 0});
    known.add(hash(2), {0, 255});
    known.add(hash(3), {last, 1});
    EXPECT_EQ(known.find(hash(1))->number, -1);
    EXPECT_EQ(known.find(hash(2))->number, 0);
    EXPECT_EQ(known.find(hash(2))->service, 255U);
    EXPECT_EQ(known.find(hash(3))->number, last);
}

TEST(KnownUsers, AreNotRememberedWhereAnEntryHasNoRoom) {
    KnownUsers known(100);
    known.add(hash(1), {(std::int64_t{1} << 40) - 2, 0});
    known.add(hash(2), {1, 256});
    EXPECT_FALSE(known.find(hash(1)));
    EXPECT_FALSE(known.find(hash(2)));
}

TEST(KnownUsers, AreToldApartByEachHash) {
    KnownUsers known(1);  // one set
    known.add({0x1111, 0x2222}, {7, 0});
    EXPECT_TRUE(known.find({0x1111, 0x2222}));
    EXPECT_FALSE(known.find({0x1111, 0x2223}));
    EXPECT_FALSE(known.find({0x1112, 0x2222}));
    EXPECT_FALSE(known.find({0, 0}));
}

}  // namespace
}  // namespace mau::source
