// A user agent has the client that Synapse's rule gives it. Stored names and numbers never change, and
// PlatformMemo gives the same answers.

#include "rules/platform.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace {

using mau::Platform;
using mau::platform_of;

TEST(Platform, FollowsTheFirstWordOfTheRule) {
    EXPECT_EQ(platform_of("Element/1.6.8 (iPhone; iOS 17.4; Scale/3.00)"), Platform::ios);
    EXPECT_EQ(platform_of("Riot.im/0.9.10 (Linux; U; Android 9)"), Platform::android);
    EXPECT_EQ(
        platform_of("Mozilla/5.0 (X11) AppleWebKit (KHTML, like Gecko) Element/1.11 Chrome Electron/28"),
        Platform::electron);
    EXPECT_EQ(platform_of("element android electron ios"), Platform::electron);
    EXPECT_EQ(platform_of("element ios android"), Platform::android);
    EXPECT_EQ(platform_of("Element X"), Platform::unknown);
    EXPECT_EQ(platform_of("Mozilla/5.0 Element"), Platform::unknown);
}

TEST(Platform, TakesOtherBrowsersForWeb) {
    EXPECT_EQ(platform_of("Mozilla/5.0 (Windows NT 10.0) Firefox/128.0"), Platform::web);
    EXPECT_EQ(platform_of("something like gecko"), Platform::web);
    EXPECT_EQ(platform_of("Mozilla/5.0 (Linux; Android 14)"), Platform::web);
    EXPECT_EQ(platform_of("Electron without the client's name, iOS"), Platform::unknown);
}

TEST(Platform, DoesNotMindCase) {
    EXPECT_EQ(platform_of("RIOT ELECTRON"), Platform::electron);
    EXPECT_EQ(platform_of("eLeMeNt IOS"), Platform::ios);
    EXPECT_EQ(platform_of("GECKO"), Platform::web);
}

TEST(Platform, DoesNotKnowWhatSaysNothing) {
    EXPECT_EQ(platform_of({}), Platform::unknown);
    EXPECT_EQ(platform_of("curl/8.5"), Platform::unknown);
    EXPECT_EQ(platform_of("elemen"), Platform::unknown);
    EXPECT_EQ(platform_of(std::string(600, 'x') + "Element iOS"), Platform::ios);
    EXPECT_EQ(platform_of(std::string_view("\0element ios", 12)), Platform::ios);
}

TEST(Platform, NamesAndNumbersAreStored) {
    EXPECT_STREQ(name(Platform::unknown), "unknown");
    EXPECT_STREQ(name(Platform::web), "web");
    EXPECT_STREQ(name(Platform::electron), "electron");
    EXPECT_STREQ(name(Platform::android), "android");
    EXPECT_STREQ(name(Platform::ios), "ios");
    for (int i = 0; i < mau::kPlatforms; ++i)
        EXPECT_EQ(mau::platform_called(name(static_cast<Platform>(i))), static_cast<Platform>(i));
    EXPECT_FALSE(mau::platform_called("Web"));
    EXPECT_EQ(static_cast<int>(Platform::unknown), 0);
    EXPECT_EQ(static_cast<int>(Platform::ios), 4);
}

// The memo has the answer of platform_of after any earlier calls: agents of all lengths, alike in most
// places.
TEST(Platform, MemoAnswersAsWithoutIt) {
    mau::PlatformMemo memo;
    std::vector<std::string> agents;
    for (std::size_t length : {0, 1, 7, 8, 9, 30, 100, 237, 238, 239, 255, 256, 300})
        for (const char* word : {"", "Element ios", "riot android", "Mozilla", "gecko", "element electron"}) {
            const std::string known = word;
            if (known.size() > length) continue;
            agents.push_back(known + std::string(length - known.size(), '.'));
            agents.push_back(std::string(length - known.size(), '.') + known);
            agents.push_back(std::string((length - known.size()) / 2, 'x') + known +
                             std::string((length - known.size() + 1) / 2, 'x'));
        }
    std::minstd_rand random(7);
    for (int i = 0; i < 20000; ++i) {
        const std::string& agent = agents[random() % agents.size()];
        ASSERT_EQ(memo.platform_of(agent), platform_of(agent)) << agent;
    }
}

}  // namespace
