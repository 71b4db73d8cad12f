// The Prometheus text has HELP and TYPE before the samples of each family, and escapes label values and help
// texts as the format requires.

#include "report/exposition.hpp"

#include <gtest/gtest.h>

namespace {

using namespace mau::exposition;

TEST(Escape, LabelValuesEscapeBackslashQuoteAndLineFeed) {
    EXPECT_EQ(escape_label("irc-bridge"), "irc-bridge");
    EXPECT_EQ(escape_label(R"(a"b)"), R"(a\"b)");
    EXPECT_EQ(escape_label(R"(a\b)"), R"(a\\b)");
    EXPECT_EQ(escape_label("a\nb"), R"(a\nb)");
    EXPECT_EQ(escape_label("\\n"), R"(\\n)");  // a backslash and an n are not a line feed
    EXPECT_EQ(escape_label(R"(\")"), R"(\\\")");
    EXPECT_EQ(escape_label(""), "");
}

TEST(Escape, OtherBytesOfALabelValueStayAsTheyAre) {
    EXPECT_EQ(escape_label("brücke"), "brücke");
    EXPECT_EQ(escape_label("a\tb\rc{}=,"), "a\tb\rc{}=,");
}

TEST(Escape, HelpLeavesQuotesAlone) {
    EXPECT_EQ(escape_help("the \"best\" of\n\\ all"), R"(the "best" of\n\\ all)");
}

TEST(Text, IsEmptyWithoutFamilies) {
    EXPECT_EQ(Text().str(), "");
}

TEST(Text, HasHelpAndTypeBeforeTheSamples) {
    Text text;
    text.gauge("synapse_admin_mau_current", "Current MAU");
    text.sample(14);
    EXPECT_EQ(text.str(),
              "# HELP synapse_admin_mau_current Current MAU\n"
              "# TYPE synapse_admin_mau_current gauge\n"
              "synapse_admin_mau_current 14\n");
}

TEST(Text, PutsTheCommonLabelsBeforeASamplesOwn) {
    Text text(std::vector<Label>{{"server_name", "example.com"}});
    text.gauge("a", "A");
    text.sample(-1);
    text.sample(2, {{"app_service", "native"}, {"kind", "x\"y"}});
    EXPECT_EQ(text.str(),
              "# HELP a A\n# TYPE a gauge\n"
              "a{server_name=\"example.com\"} -1\n"
              "a{server_name=\"example.com\",app_service=\"native\",kind=\"x\\\"y\"} 2\n");
}

TEST(Text, KeepsItsLinesAsSamples) {
    Text text(std::vector<Label>{{"server_name", "example.com"}});
    text.gauge("a", "A");
    text.sample(-1);
    text.counter("b_total", "B");
    text.sample(2, {{"kind", "x"}});
    ASSERT_EQ(text.samples().size(), 2u);
    EXPECT_EQ(text.samples()[0].name, "a");
    EXPECT_EQ(text.samples()[0].labels, R"({"server_name": "example.com"})");
    EXPECT_EQ(text.samples()[0].value, -1);
    EXPECT_EQ(text.samples()[1].name, "b_total");
    EXPECT_EQ(text.samples()[1].labels, R"({"server_name": "example.com", "kind": "x"})");
    EXPECT_EQ(text.samples()[1].value, 2);
}

TEST(JsonObject, EscapesQuotesBackslashesAndControlCharacters) {
    EXPECT_EQ(json_object({}), "{}");
    EXPECT_EQ(json_object({{"a", "brücke"}}), R"({"a": "brücke"})");
    EXPECT_EQ(json_object({{"a", "\"\\\n\t\x1f"}}), R"({"a": "\"\\\u000a\u0009\u001f"})");
}

TEST(Text, SaysWhatACounterIs) {
    Text text;
    text.counter("a_total", "A");
    text.sample(3, {{"kind", "b"}});
    EXPECT_EQ(text.str(), "# HELP a_total A\n# TYPE a_total counter\na_total{kind=\"b\"} 3\n");
}

TEST(Text, TakesTheLargestNumbers) {
    Text text;
    text.gauge("a", "A");
    text.sample(INT64_MAX);
    EXPECT_NE(text.str().find("a 9223372036854775807\n"), std::string::npos);
}

}  // namespace
