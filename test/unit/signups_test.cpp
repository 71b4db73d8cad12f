// Signups has every user exactly once, in bounded memory: chunks that do not fit are left out and read in a
// later pass.

#include "history/signups.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <tuple>

namespace {

using mau::Signups;
using mau::bitmap::Bits;
using Account = std::tuple<std::int32_t, std::uint32_t, std::uint16_t>;  // chunk, cohort, place

/// Fills it as often as it takes, and answers what it had, and how often.
std::pair<std::multiset<Account>, int> collect(Signups& signups, const std::vector<Account>& accounts,
                                               std::size_t most_bytes) {
    std::multiset<Account> had;
    int times = 0;
    for (std::optional<std::int32_t> first = 0; first; first = signups.left_out()) {
        signups.begin(*first);
        for (const auto& [chunk, cohort, place] : accounts) signups.add(chunk, place, cohort);
        std::size_t bytes = 0;
        std::set<std::int32_t> chunks;
        for (const auto& [key, users] : signups.users()) {
            auto bits = std::make_unique<Bits>();
            bits->clear();
            users.add_to(*bits);
            bits->for_each([&, key = key](std::uint16_t place) {
                had.insert({key.first, key.second, place});
            });
            bytes += users.bytes();
            chunks.insert(key.first);
        }
        EXPECT_TRUE(bytes <= most_bytes || chunks.size() == 1);
        ++times;
    }
    return {had, times};
}

std::vector<Account> accounts(std::size_t count, std::int32_t chunks, std::uint32_t cohorts, bool in_order) {
    std::mt19937 random(7);
    std::set<std::pair<std::int32_t, std::uint16_t>> users;
    while (users.size() < count)
        users.insert({static_cast<std::int32_t>(random() % static_cast<unsigned>(chunks)),
                      static_cast<std::uint16_t>(random())});
    std::vector<Account> all;
    std::size_t i = 0;
    for (const auto& [chunk, place] : users)
        all.emplace_back(
            chunk, in_order ? static_cast<std::uint32_t>(i++ * cohorts / count) : random() % cohorts, place);
    if (!in_order) std::shuffle(all.begin(), all.end(), random);
    return all;
}

TEST(Signups, have_everybody_once) {
    for (const bool in_order : {true, false})
        for (const std::size_t most : {std::size_t{1}, std::size_t{20000}, std::size_t{1} << 30}) {
            const auto all = accounts(20000, 9, 5, in_order);
            Signups signups(most);
            const auto [had, times] = collect(signups, all, most);
            EXPECT_EQ(had, std::multiset<Account>(all.begin(), all.end()));
            EXPECT_EQ(times, most == 1 ? 9 : most == 20000 ? times : 1);
            if (most == 20000) {
                EXPECT_GT(times, 1);
            }
        }
}

TEST(Signups, many_of_a_chunk_take_no_more_than_a_bitmap) {
    Signups signups(1 << 30);
    signups.begin(0);
    for (int place = 0; place < 65536; ++place) signups.add(3, static_cast<std::uint16_t>(place), 1);
    ASSERT_EQ(signups.users().size(), 1u);
    EXPECT_LT(signups.users().begin()->second.bytes(), 9000u);
    EXPECT_FALSE(signups.left_out());
}

TEST(Signups, of_earlier_chunks_are_not_taken_again) {
    Signups signups(1 << 30);
    signups.begin(2);
    signups.add(1, 1, 0);
    signups.add(2, 2, 0);
    ASSERT_EQ(signups.users().size(), 1u);
    EXPECT_EQ(signups.users().begin()->first.first, 2);
    signups.begin(0);
    EXPECT_TRUE(signups.users().empty());
}

TEST(Signups, none_are_none) {
    Signups signups(1);
    const auto [had, times] = collect(signups, {}, 1);
    EXPECT_TRUE(had.empty());
    EXPECT_EQ(times, 1);
}

}  // namespace
