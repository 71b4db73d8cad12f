#include "policy.hpp"
#include <gtest/gtest.h>
TEST(Policy, CountsWithoutBeingTold) { EXPECT_TRUE(mau::Settings{}.mau_stats_only); }
