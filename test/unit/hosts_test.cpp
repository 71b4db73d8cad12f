// The host in a user id, and whether it is this server's: Matrix ids and JIDs.
#include <gtest/gtest.h>

#include "rules/policy.hpp"

namespace mau {
namespace {

TEST(Hosts, OfMatrixIds) {
    EXPECT_EQ(host_of("@alice:example.com"), "example.com");
    EXPECT_EQ(host_of("@alice:example.com:8448"), "example.com:8448");
    EXPECT_EQ(host_of("@alice:[::1]:8448"), "[::1]:8448");
    EXPECT_EQ(host_of("@alice"), "");
    EXPECT_EQ(host_of("@"), "");
}

TEST(Hosts, OfJids) {
    EXPECT_EQ(host_of("alice@example.com"), "example.com");
    EXPECT_EQ(host_of("alice@example.com/phone@home"), "example.com");
    EXPECT_EQ(host_of("alice"), "");
    EXPECT_EQ(host_of(""), "");
}

TEST(Hosts, LocalIsWhoseHostIsTheServersName) {
    Settings settings;
    EXPECT_TRUE(is_local(settings, "anybody"));
    settings.server_name = "example.com";
    for (const char* id : {"@alice:example.com", "alice@example.com", "alice@example.com/phone"})
        EXPECT_TRUE(is_local(settings, id)) << id;
    for (const char* id :
         {"@alice:example.org", "alice@example.org", "@alice:example.com:8448", "@:example.com",
          "@example.com", "alice", "", "@alice:sub.example.com", "@alice@example.com"})
        EXPECT_FALSE(is_local(settings, id)) << id;
}

}  // namespace
}  // namespace mau
