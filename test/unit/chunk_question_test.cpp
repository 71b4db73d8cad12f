// The questions about one chunk against the obvious answer on sets of visits, which come in any order and as
// several bitmaps a day.

#include "history/chunk_question.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "base/error.hpp"

namespace mau::history {
namespace {

using bitmap::BitRows;
using bitmap::Bits;
using Figure = ChunkQuestion::Figure;
using Numbers = std::vector<std::int64_t>;
using Users = std::set<std::uint16_t>;

constexpr Day kBegin = 20000;  // of the visits
constexpr int kDays = 200;
constexpr Day kEarlier = INT32_MIN;  // the day of all earlier visits

std::vector<std::uint8_t> encoded(const Users& users, std::uint16_t key = 3) {
    Bits bits{};
    for (const std::uint16_t user : users) bits.set(user);
    std::vector<std::uint8_t> bytes(bitmap::encoded_size(bitmap::kUsers));
    bytes.resize(bitmap::encode(bits, key, bytes.data()));
    return bytes;
}

struct Memory {
    explicit Memory(std::size_t rows) : bits(rows), view(bits.data(), rows) {}
    std::vector<Bits> bits;
    BitRows view;
};

/// A bitmap as a row of a query: active users, or users who registered.
struct Row {
    Day day;
    Users users;
    bool registered;
};

class ChunkQuestions : public testing::Test {
  protected:
    std::mt19937 random{11};
    std::vector<Row> rows;
    Users left_out;

    void SetUp() override {
        for (int user = 0; user < 60; ++user) {
            const auto place = static_cast<std::uint16_t>(random());
            const Day registered = kBegin + static_cast<Day>(random() % kDays);
            const unsigned rarity = 1 + random() % 40;
            rows.push_back({registered, {place}, true});
            for (Day day = registered; day < kBegin + kDays; ++day)
                for (int client = 0; client < 2; ++client)
                    if (random() % rarity == 0) rows.push_back({day, {place}, false});
            if (user % 9 == 0) rows.push_back({kEarlier, {place}, false});
            if (user % 7 == 0) left_out.insert(place);
        }
        std::shuffle(rows.begin(), rows.end(), random);
    }

    Numbers answer(const ChunkQuestion& question) const {
        Memory memory(question.rows() + 1), space(question.scratch() + 1);
        ChunkRows chunk(memory.view);
        const auto mask = encoded(left_out);
        chunk.leave_out(mask.data(), mask.size());
        for (const Row& row : rows) {
            if (row.registered && question.figure != Figure::retention) continue;
            const auto place = row.registered ? question.signup_row_of(row.day) : question.row_of(row.day);
            const auto bytes = encoded(row.users);
            if (place) chunk.add(*place, bytes.data(), bytes.size(), row.day);
        }
        return question.answer(chunk.rows(), space.view);
    }

    /// The users, not left out, who were active (or registered) from one day to another.
    Users between(Day first, Day last, bool registered = false) const {
        Users found;
        for (const Row& row : rows)
            if (row.registered == registered && row.day >= first && row.day <= last)
                for (const std::uint16_t user : row.users)
                    if (!left_out.count(user)) found.insert(user);
        return found;
    }
};

std::int64_t size_of(const Users& users) {
    return static_cast<std::int64_t>(users.size());
}

Users both(const Users& a, const Users& b) {
    Users found;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::inserter(found, found.end()));
    return found;
}

const DayRange kRanges[] = {{kBegin, kBegin + 10},          {kBegin + 90, kBegin + 130},
                            {kBegin - 50, kBegin + 3},      {kBegin + 190, kBegin + 280},
                            {kBegin + 199, kBegin + 199},   {kFirstDay, kFirstDay + 5},
                            {kBegin + 1000, kBegin + 1010}, {kLastDay - 3, kLastDay}};

TEST_F(ChunkQuestions, SeriesCountsEachWindow) {
    for (const DayRange days : kRanges)
        for (const std::size_t window : {1, 7, 30}) {
            Numbers expected;
            for (Day day = days.first; day <= days.last; ++day)
                expected.push_back(size_of(between(day - static_cast<Day>(window) + 1, day)));
            EXPECT_EQ(answer({Figure::series, days, window, Period::month}), expected);
        }
}

TEST_F(ChunkQuestions, GrowthComparesWithTheWindowBefore) {
    for (const DayRange days : kRanges)
        for (const Day window : {1, 7, 30}) {
            Numbers expected;
            for (Day day = days.first; day <= days.last; ++day) {
                const Users now = between(day - window + 1, day);
                const Users before = between(day - 2 * window + 1, day - window);
                const Users ever = between(kEarlier, day - window);
                const std::int64_t retained = size_of(both(now, before)), known = size_of(both(now, ever));
                expected.insert(expected.end(), {size_of(now) - known, retained, known - retained,
                                                 size_of(before) - retained});
            }
            const ChunkQuestion question{Figure::growth, days, static_cast<std::size_t>(window),
                                         Period::month};
            EXPECT_EQ(answer(question), expected);
            EXPECT_EQ(question.shape(), (std::vector<int>{days.last - days.first + 1, 4}));
        }
}

TEST_F(ChunkQuestions, ReturningUsersHaveVisitsFarApart) {
    for (const DayRange days : kRanges) {
        Numbers expected;
        for (Day day = days.first; day <= days.last; ++day) {
            Users found;
            for (Day early = day - 59; early <= day + 1; ++early)
                for (const std::uint16_t user : both(between(early, early), between(early + 31, day + 1)))
                    found.insert(user);
            expected.push_back(size_of(found));
        }
        EXPECT_EQ(answer({Figure::r30v2, days, 30, Period::month}), expected);
    }
}

TEST_F(ChunkQuestions, RetentionCountsEachCohort) {
    for (const Period unit : {Period::day, Period::week, Period::month}) {
        const DayRange days{kBegin + 50, kBegin + 140};
        const std::int32_t first = period_index(unit, days.first), last = period_index(unit, days.last);
        Numbers expected;
        for (std::int32_t c = first; c <= last; ++c) {
            const Users cohort = between(period_first(unit, c), period_first(unit, c + 1) - 1, true);
            expected.push_back(size_of(cohort));
            for (std::int32_t p = first; p <= last; ++p)
                expected.push_back(p < c ? 0
                                         : size_of(both(cohort, between(period_first(unit, p),
                                                                        period_first(unit, p + 1) - 1))));
        }
        EXPECT_EQ(answer({Figure::retention, days, 30, unit}), expected);
    }
}

TEST_F(ChunkQuestions, RefusesOtherChunksAndDamage) {
    Memory memory(3);
    ChunkRows chunk(memory.view);
    const auto add = [&](std::vector<std::uint8_t> bytes) -> std::string {
        try {
            chunk.add(0, bytes.data(), bytes.size(), kBegin);
        } catch (const Error& error) {
            return std::string(error.state()) + " " + error.what() + ": " + error.detail();
        }
        return "";
    };
    EXPECT_EQ(add(encoded({1, 2}, 7)), "");
    EXPECT_EQ(add(encoded({1, 2}, 8)),
              "22023 bitmaps of several chunks in one group: They are chunks 7 and 8.");
    auto damaged = encoded({1, 2}, 7);
    damaged.pop_back();
    EXPECT_EQ(add(damaged).substr(0, 57), "XX001 corrupt bitmap: A bitmap of day 2024-10-04: length ");
    EXPECT_EQ(add({}).substr(0, 21), "XX001 corrupt bitmap:");
}

}  // namespace
}  // namespace mau::history
