// Expositions of several databases become one in which each family stands once, and each sample has the label
// of its database.

#include "client/exposition_merge.hpp"

#include <gtest/gtest.h>

namespace {

using namespace mau::client;

std::shared_ptr<const Families> parsed(std::string_view text, std::string_view database = {}) {
    return std::make_shared<Families>(parse_exposition(text, database));
}

constexpr std::string_view kFirst =
    "# HELP a_users The \"users\"\n# TYPE a_users gauge\na_users 1\na_users{service=\"x\"} 2\n"
    "# HELP b_total Calls\n# TYPE b_total counter\nb_total{} 3\n";
constexpr std::string_view kSecond =
    "# HELP b_total Calls\n# TYPE b_total counter\nb_total 4\n# HELP c_seconds Lag\n# TYPE c_seconds "
    "gauge\nc_seconds 0.5\n";

TEST(Merge, OneExpositionStaysAsItIs) {
    EXPECT_EQ(merge_expositions({parsed(kFirst)}), kFirst);
    EXPECT_EQ(merge_expositions({}), "");
    EXPECT_EQ(merge_expositions({parsed("")}), "");
}

TEST(Merge, EachFamilyStandsOnce) {
    EXPECT_EQ(merge_expositions({parsed(kFirst, "one"), parsed(kSecond, "two")}),
              "# HELP a_users The \"users\"\n# TYPE a_users gauge\n"
              "a_users{database=\"one\"} 1\na_users{database=\"one\",service=\"x\"} 2\n"
              "# HELP b_total Calls\n# TYPE b_total counter\n"
              "b_total{database=\"one\"} 3\nb_total{database=\"two\"} 4\n"
              "# HELP c_seconds Lag\n# TYPE c_seconds gauge\nc_seconds{database=\"two\"} 0.5\n");
}

TEST(Parse, TheLabelIsEscaped) {
    EXPECT_EQ(merge_expositions({parsed("# TYPE a gauge\na 1\n", "x\"y\\z")}),
              "# TYPE a gauge\na{database=\"x\\\"y\\\\z\"} 1\n");
}

TEST(Parse, LabelValuesMayHoldBracesAndSpaces) {
    EXPECT_EQ(merge_expositions({parsed("# TYPE a gauge\na{s=\"} {\"} 1\n", "d")}),
              "# TYPE a gauge\na{database=\"d\",s=\"} {\"} 1\n");
}

TEST(Parse, ReplacesALabelDatabase) {
    const std::string_view text =
        "# TYPE a gauge\na{database=\"own\"} 1\na{s=\"x\",database=\"o\\\"w,}n\",t=\"y\"} "
        "2\na{my_database=\"z\"} 3\n";
    EXPECT_EQ(merge_expositions({parsed(text, "d")}),
              "# TYPE a gauge\na{database=\"d\"} 1\na{database=\"d\",s=\"x\",t=\"y\"} 2\n"
              "a{database=\"d\",my_database=\"z\"} 3\n");
    EXPECT_EQ(merge_expositions({parsed(text)}), text);
}

TEST(Parse, LeavesOutWhatIsOfNoFamily) {
    EXPECT_EQ(merge_expositions({parsed("x 1\n# a comment\n# TYPE a gauge\n\nb 2\na 1\nrubbish")}),
              "# TYPE a gauge\na 1\n");
}

}  // namespace
