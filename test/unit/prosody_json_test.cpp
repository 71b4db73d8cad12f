// The time in a value of Prosody's mod_lastlog2: only JSON objects with a number `timestamp` have one.
#include <gtest/gtest.h>

#include <string>

#include "source/prosody_json.hpp"

namespace mau::source {
namespace {

constexpr std::int64_t kSeen = 1795226002000;

std::string repeat(const std::string& text, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
}

TEST(ProsodyTime, OfWhatProsodyWrites) {
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"ip":"::1","timestamp":1795226002})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002,"ip":"192.0.2.1"})"), kSeen);
}

TEST(ProsodyTime, NumbersInEveryForm) {
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002.0})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":1.795226002e9})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002000E-3})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":0})"), 0);
    EXPECT_EQ(prosody_time(R"({"timestamp":32503679999})"), 32503679999000);
    // To the millisecond, rounded down.
    for (int ms = 0; ms < 1000; ++ms) {
        const std::string digits = std::to_string(1000 + ms).substr(1);
        EXPECT_EQ(prosody_time(R"({"timestamp":1795226002.)" + digits + "}"), kSeen + ms) << digits;
        EXPECT_EQ(prosody_time(R"({"timestamp":1795226002.)" + digits + "9}"), kSeen + ms) << digits;
    }
}

TEST(ProsodyTime, NoneOfNumbersThatAreNoTime) {
    for (const char* number :
         {"-5", "-0.001", "32503680000", "99999999999999999999", "1e308", "1e999", "-1e999", "NaN",
          "Infinity", "0x6b", "01795226002", "+1795226002", ".5", "5.", "1e", "1_000"})
        EXPECT_EQ(prosody_time(R"({"timestamp":)" + std::string(number) + "}"), std::nullopt) << number;
}

TEST(ProsodyTime, NoneOfOtherTypes) {
    for (const char* value :
         {R"("1795226002")", "null", "true", "[1795226002]", "{}", R"({"timestamp":1795226002})", "[]"})
        EXPECT_EQ(prosody_time(R"({"timestamp":)" + std::string(value) + "}"), std::nullopt) << value;
    for (const char* value :
         {"", " ", "1795226002", R"("timestamp")", "[]", R"([{"timestamp":1795226002}])", "{}", "null",
          R"({"Timestamp":1795226002})", R"({"x":{"timestamp":1795226002}})"})
        EXPECT_EQ(prosody_time(value), std::nullopt) << value;
}

TEST(ProsodyTime, TheLastOfSeveral) {
    EXPECT_EQ(prosody_time(R"({"timestamp":1,"timestamp":1795226002})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":"x","timestamp":1795226002})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":{"a":[]},"timestamp":1795226002})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002,"timestamp":"x"})"), std::nullopt);
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002,"timestamp":{}})"), std::nullopt);
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002,"timestamp":[7]})"), std::nullopt);
}

TEST(ProsodyTime, OtherMembersDoNotMatter) {
    EXPECT_EQ(prosody_time("{ \"ip\" : \"::1\" ,\n\t\"timestamp\" : 1795226002 }\r\n"), kSeen);
    EXPECT_EQ(prosody_time(R"({"timestamp":1795226002,"extra":{"a":[1,2,{"b":"x]}"}],"timestamp":1}})"),
              kSeen);
    EXPECT_EQ(prosody_time(R"({"a":"\"timestamp\":12,","timestamp":1795226002,"b":"\\"})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"x":"{[","timestamp":1795226002})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"":null,"timestamp":1795226002,"n":[true,false,-0.5e-7]})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"\u0074imestamp":1795226002})"), kSeen);
    EXPECT_EQ(prosody_time(R"({"a":"\u0000\ud83d\ude00 zoë","timestamp":1795226002})"), kSeen);
}

TEST(ProsodyTime, NoneOfWhatIsNoJson) {
    for (const char* value : {"not json",
                              R"({"timestamp":)",
                              R"({"timestamp":1795226002)",
                              R"({"timestamp":1795226002}})",
                              R"({"timestamp":1795226002,})",
                              R"({,"timestamp":1795226002})",
                              R"({"timestamp":1795226002} x)",
                              R"({"timestamp":1795226002}{"timestamp":1795226002})",
                              R"({timestamp:1795226002})",
                              R"({'timestamp':1795226002})",
                              R"({"timestamp" 1795226002})",
                              R"({"a":"b\","timestamp":1795226002})",
                              R"({"a":"\x","timestamp":1795226002})",
                              R"({"a":"\u12","timestamp":1795226002})",
                              R"({"a":"\ud83d","timestamp":1795226002})",
                              R"({"a":/* */1,"timestamp":1795226002})",
                              R"({"a":[1,],"timestamp":1795226002})",
                              R"({"a":{"b"},"timestamp":1795226002})",
                              "{\"a\":\"\n\",\"timestamp\":1795226002}",
                              "{\"a\":\"\x01\",\"timestamp\":1795226002}"})
        EXPECT_EQ(prosody_time(value), std::nullopt) << value;
    EXPECT_EQ(prosody_time({"{\"a\":\"\0\",\"timestamp\":1795226002}", 32}), std::nullopt);
}

TEST(ProsodyTime, NoneOfWhatIsNotUtf8) {
    for (const char* bytes : {"\x80", "\xe4", "\xe2\x82", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"})
        EXPECT_EQ(prosody_time("{\"a\":\"" + std::string(bytes) + "\",\"timestamp\":1795226002}"),
                  std::nullopt);
}

TEST(ProsodyTime, DepthAndLengthAreBounded) {
    const auto nested = [](int depth) {
        return R"({"timestamp":1795226002,"a":)" + repeat("[", depth) + repeat("]", depth) + "}";
    };
    EXPECT_EQ(prosody_time(nested(2000)), kSeen);
    EXPECT_EQ(prosody_time(nested(2100)), std::nullopt) << "longer than 4096 bytes";
    EXPECT_EQ(prosody_time(repeat("[", 1'000'000)), std::nullopt);
    EXPECT_EQ(prosody_time(repeat(R"({"a":)", 800)), std::nullopt);
    std::string value = R"({"timestamp":1795226002})";
    value.resize(kLongestProsodyValue, ' ');
    EXPECT_EQ(prosody_time(value), kSeen);
    EXPECT_EQ(prosody_time(value + " "), std::nullopt);
}

}  // namespace
}  // namespace mau::source
