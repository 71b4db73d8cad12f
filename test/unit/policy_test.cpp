// The rules, row by row. Expected answers are those of doc/reference.md, `mau.record_activity` and
// `mau.check_auth_blocking`; a row's name says which rule it tests.
#include "rules/policy.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <vector>

namespace mau {

// GoogleTest finds these by the namespace of what it prints.
void PrintTo(Outcome outcome, std::ostream* out) {
    *out << name(outcome);
}
void PrintTo(Gate gate, std::ostream* out) {
    *out << (gate == Gate::open ? "open" : gate == Gate::disabled ? "disabled" : "if_seat");
}

namespace {

constexpr Instant kSecond = 1000;
constexpr Instant kMinute = 60 * kSecond;
constexpr Instant kHour = 60 * kMinute;
constexpr Instant kThirtyDays = Instant{30} * 86'400'000;
constexpr Instant kNow = 1'795'226'100'080;  // no round number of anything
constexpr std::string_view kAlice = "@alice:example.com";

template <class Value, class... Changes>
Value with(Value value, Changes... changes) {
    (changes(value), ...);
    return value;
}

// Settings.
void limited(Settings& s) {
    s.limit_usage_by_mau = true;
}
void no_stats(Settings& s) {
    s.mau_stats_only = false;
}
void tracking(Settings& s) {
    s.track_appservice_user_ips = true;
}
void ten_trial_days(Settings& s) {
    s.mau_trial_days = 10;
}
void deactivated_leave(Settings& s) {
    s.count_deactivated_users = false;
}
void locked_leave(Settings& s) {
    s.count_locked_users = false;
}
void example_com(Settings& s) {
    s.server_name = "example.com";
}
void disabled(Settings& s) {
    s.hs_disabled = true;
}
void notices_from_alice(Settings& s) {
    s.server_notices_mxid = kAlice;
}

// Accounts.
auto registered(Instant ago) {
    return [ago](Account& a) {
        a.registered = true;
        a.registered_at = kNow - ago;
    };
}
void known(Account& a) {
    registered(400 * kDay)(a);
}
void guest(Account& a) {
    a.guest = true;
}
void support(Account& a) {
    a.support = true;
}
void deactivated(Account& a) {
    a.deactivated = true;
}
void locked(Account& a) {
    a.locked = true;
}
void bridged(Account& a) {
    a.appservice = "irc-bridge";
}
void empty_appservice(Account& a) {
    a.appservice = "";
}
auto own_trial(std::int64_t days) {
    return [days](Account& a) { a.appservice_trial_days = days; };
}

// Memberships.
auto seen(Instant ago) {
    return [ago](Membership& m) { m.last_seen = kNow - ago; };
}
void reserved(Membership& m) {
    m.reserved = true;
}

const Account kNative = with(Account{}, known);
const Membership kStranger{};

// --- Recording
// -------------------------------------------------------------------------------------------------

struct SightingRow {
    const char* name;
    Settings settings;
    Account account;
    Membership membership;
    Outcome expected;
    std::string_view user_id = kAlice;
};

class Sighting : public testing::TestWithParam<SightingRow> {};

TEST_P(Sighting, IsJudgedAsTheReferenceSays) {
    const SightingRow& row = GetParam();
    EXPECT_EQ(judge_sighting(row.settings, row.user_id, row.account, row.membership, kNow), row.expected);
}

template <class Row>
std::string name_of(const testing::TestParamInfo<Row>& info) {
    return info.param.name;
}

const SightingRow kSightings[] = {
    // "only if limit_usage_by_mau or mau_stats_only is set"
    {"Rule0_DefaultsRecord", Settings{}, kNative, kStranger, Outcome::joined},
    {"Rule0_LimitAloneRecords", with(Settings{}, limited, no_stats), kNative, kStranger, Outcome::joined},
    {"Rule0_BothRecord", with(Settings{}, limited), kNative, kStranger, Outcome::joined},
    {"Rule0_NeitherRecordsNothing", with(Settings{}, no_stats), kNative, kStranger, Outcome::off},
    {"Rule0_NeitherRefreshesNobody", with(Settings{}, no_stats), kNative, with(Membership{}, seen(2 * kHour)),
     Outcome::off},

    // 1. a guest is left out
    {"Rule1_GuestIsLeftOut", Settings{}, with(kNative, guest), kStranger, Outcome::guest},
    {"Rule1_GuestIsLeftOutUnderALimit", with(Settings{}, limited), with(kNative, guest), kStranger,
     Outcome::guest},
    {"Rule1_MemberWhoIsAGuestIsNotRefreshed", Settings{}, with(kNative, guest),
     with(Membership{}, seen(2 * kHour)), Outcome::guest},
    {"Rule1_GuestBeforeTrial", with(Settings{}, ten_trial_days), with(Account{}, registered(kDay), guest),
     kStranger, Outcome::guest},

    // 2. a trial user is left out: now - registered < days * 86 400 000
    {"Rule2_OneSecondBeforeTheEndIsTrial", with(Settings{}, ten_trial_days),
     with(Account{}, registered(10 * kDay - kSecond)), kStranger, Outcome::trial},
    {"Rule2_OneMillisecondBeforeTheEndIsTrial", with(Settings{}, ten_trial_days),
     with(Account{}, registered(10 * kDay - 1)), kStranger, Outcome::trial},
    {"Rule2_AtTheEndIsNoTrial", with(Settings{}, ten_trial_days), with(Account{}, registered(10 * kDay)),
     kStranger, Outcome::joined},
    {"Rule2_OneSecondAfterTheEndIsNoTrial", with(Settings{}, ten_trial_days),
     with(Account{}, registered(10 * kDay + kSecond)), kStranger, Outcome::joined},
    {"Rule2_JustRegisteredIsTrial", with(Settings{}, ten_trial_days), with(Account{}, registered(0)),
     kStranger, Outcome::trial},
    {"Rule2_RegisteredInTheFutureIsTrial", with(Settings{}, ten_trial_days),
     with(Account{}, registered(-kHour)), kStranger, Outcome::trial},
    {"Rule2_NoTrialDaysNoTrial", Settings{}, with(Account{}, registered(0)), kStranger, Outcome::joined},
    {"Rule2_NoTrialDaysNoTrialInTheFuture", Settings{}, with(Account{}, registered(-kHour)), kStranger,
     Outcome::joined},
    {"Rule2_OwnDaysOfTheAppserviceAreLonger", with(Settings{}, ten_trial_days, tracking),
     with(Account{}, registered(15 * kDay), bridged, own_trial(20)), kStranger, Outcome::trial},
    {"Rule2_OwnDaysOfTheAppserviceAreShorter", with(Settings{}, ten_trial_days, tracking),
     with(Account{}, registered(5 * kDay), bridged, own_trial(2)), kStranger, Outcome::joined},
    {"Rule2_OwnDaysToTheMillisecond", with(Settings{}, ten_trial_days, tracking),
     with(Account{}, registered(2 * kDay - 1), bridged, own_trial(2)), kStranger, Outcome::trial},
    {"Rule2_OwnDaysZeroIsNoTrial", with(Settings{}, ten_trial_days, tracking),
     with(Account{}, registered(kDay), bridged, own_trial(0)), kStranger, Outcome::joined},
    {"Rule2_OwnDaysWhereTheSettingsHaveNone", with(Settings{}, tracking),
     with(Account{}, registered(kDay), bridged, own_trial(2)), kStranger, Outcome::trial},
    {"Rule2_AppserviceWithoutOwnDaysTakesTheSetting", with(Settings{}, ten_trial_days, tracking),
     with(Account{}, registered(kDay), bridged), kStranger, Outcome::trial},
    {"Rule2_UnknownUserIsNoTrial", with(Settings{}, ten_trial_days), Account{}, kStranger, Outcome::joined},
    {"Rule2_RegisteredAtAnUnknownTimeIsNoTrial", with(Settings{}, ten_trial_days),
     with(Account{}, [](Account& a) { a.registered = true; }), kStranger, Outcome::joined},
    {"Rule2_SeenButNeverRegisteredIsNoTrial", with(Settings{}, ten_trial_days),
     with(Account{}, [](Account& a) { a.registered_at = kNow; }), kStranger, Outcome::joined},
    {"Rule2_TrialMemberIsNotRefreshed", with(Settings{}, ten_trial_days), with(Account{}, registered(kDay)),
     with(Membership{}, seen(2 * kHour)), Outcome::trial},

    // 3. rewritten only if the timestamp is more than 1 h old
    {"Rule3_SeenJustNow", Settings{}, kNative, with(Membership{}, seen(0)), Outcome::unchanged},
    {"Rule3_Seen59MinutesAgo", Settings{}, kNative, with(Membership{}, seen(59 * kMinute)),
     Outcome::unchanged},
    {"Rule3_SeenExactlyAnHourAgo", Settings{}, kNative, with(Membership{}, seen(60 * kMinute)),
     Outcome::unchanged},
    {"Rule3_SeenAnHourAndAMillisecondAgo", Settings{}, kNative, with(Membership{}, seen(kHour + 1)),
     Outcome::refreshed},
    {"Rule3_Seen61MinutesAgo", Settings{}, kNative, with(Membership{}, seen(61 * kMinute)),
     Outcome::refreshed},
    {"Rule3_SeenInTheFuture", Settings{}, kNative, with(Membership{}, seen(-kDay)), Outcome::unchanged},
    {"Rule3_GranularityIsASetting",
     with(Settings{}, [](Settings& s) { s.last_seen_granularity = 5 * kMinute; }), kNative,
     with(Membership{}, seen(5 * kMinute + 1)), Outcome::refreshed},
    {"Rule3_GranularityIsASettingToTheMillisecond",
     with(Settings{}, [](Settings& s) { s.last_seen_granularity = 5 * kMinute; }), kNative,
     with(Membership{}, seen(5 * kMinute)), Outcome::unchanged},
    {"Rule3_NoGranularityTheSameInstant", with(Settings{}, [](Settings& s) { s.last_seen_granularity = 0; }),
     kNative, with(Membership{}, seen(0)), Outcome::unchanged},
    {"Rule3_NoGranularityTheNextMillisecond",
     with(Settings{}, [](Settings& s) { s.last_seen_granularity = 0; }), kNative, with(Membership{}, seen(1)),
     Outcome::refreshed},
    {"Rule3_MemberIsRefreshedWithoutASeatUnderALimit", with(Settings{}, limited), kNative,
     with(Membership{}, seen(2 * kHour)), Outcome::refreshed},

    // Expiry: "a row exactly 30 days old stays", and not a millisecond longer
    {"Window_OneMillisecondBefore", Settings{}, kNative, with(Membership{}, seen(kThirtyDays - 1)),
     Outcome::refreshed},
    {"Window_ExactlyThirtyDays", Settings{}, kNative, with(Membership{}, seen(kThirtyDays)),
     Outcome::refreshed},
    {"Window_ThirtyDaysAndAMillisecond", Settings{}, kNative, with(Membership{}, seen(kThirtyDays + 1)),
     Outcome::joined},
    {"Window_ReservedUserHoldsForEver", Settings{}, kNative, with(Membership{}, seen(1000 * kDay), reserved),
     Outcome::refreshed},
    {"Window_ReservedUserWithoutARowJoins", Settings{}, kNative, with(Membership{}, reserved),
     Outcome::joined},

    // 4. a user not in the table is inserted (whether there is a seat is asked later)
    {"Rule4_NewcomerJoins", Settings{}, kNative, kStranger, Outcome::joined},
    {"Rule4_NewcomerMayJoinUnderALimit", with(Settings{}, limited), kNative, kStranger, Outcome::joined},
    {"Rule4_UnknownUserJoins", Settings{}, Account{}, kStranger, Outcome::joined},

    // 5. a support user is never inserted, also not on the reserved path; a bot is (bot is no attribute here)
    {"Rule5_SupportIsNeverInserted", Settings{}, with(kNative, support), kStranger, Outcome::support},
    {"Rule5_SupportIsNotRefreshed", Settings{}, with(kNative, support), with(Membership{}, seen(2 * kHour)),
     Outcome::support},
    {"Rule5_SupportIsNotInsertedWithAReservedThreepid", Settings{}, with(kNative, support),
     with(Membership{}, reserved), Outcome::support},
    {"Rule5_TrialBeforeSupport", with(Settings{}, ten_trial_days), with(Account{}, registered(kDay), support),
     kStranger, Outcome::trial},

    // 6. appservices only with track_appservice_user_ips
    {"Rule6_UntrackedAppservice", Settings{}, with(kNative, bridged), kStranger, Outcome::appservice},
    {"Rule6_UntrackedAppserviceMemberIsNotRefreshed", Settings{}, with(kNative, bridged),
     with(Membership{}, seen(2 * kHour)), Outcome::appservice},
    {"Rule6_UntrackedBeforeGuestTrialAndSupport", with(Settings{}, ten_trial_days),
     with(Account{}, registered(kDay), bridged, guest, support), kStranger, Outcome::appservice},
    {"Rule6_TrackedAppserviceJoins", with(Settings{}, tracking), with(kNative, bridged), kStranger,
     Outcome::joined},
    {"Rule6_TrackedAppserviceIsRefreshed", with(Settings{}, tracking), with(kNative, bridged),
     with(Membership{}, seen(2 * kHour)), Outcome::refreshed},
    {"Rule6_EmptyAppserviceIsNative", Settings{}, with(kNative, empty_appservice), kStranger,
     Outcome::joined},
    {"Rule6_SenderOrNamespaceWithoutRegistration", Settings{}, with(Account{}, bridged), kStranger,
     Outcome::appservice},

    // "Deactivated users stay until they expire"; with count_deactivated_users off they do not count (ours)
    {"Deactivated_JoinsAsInSynapse", Settings{}, with(kNative, deactivated), kStranger, Outcome::joined},
    {"Deactivated_IsRefreshedAsInSynapse", Settings{}, with(kNative, deactivated),
     with(Membership{}, seen(2 * kHour)), Outcome::refreshed},
    {"Deactivated_StaysOutWithTheSettingOff", with(Settings{}, deactivated_leave), with(kNative, deactivated),
     kStranger, Outcome::deactivated},
    {"Deactivated_IsNotRefreshedWithTheSettingOff", with(Settings{}, deactivated_leave),
     with(kNative, deactivated), with(Membership{}, seen(2 * kHour)), Outcome::deactivated},
    // Locked users stay until they expire, too (Synapse 1.160); with count_locked_users off they do not count
    // (ours)
    {"Locked_JoinsAsInSynapse", with(Settings{}, deactivated_leave), with(kNative, locked), kStranger,
     Outcome::joined},
    {"Locked_StaysOutWithTheSettingOff", with(Settings{}, locked_leave), with(kNative, locked), kStranger,
     Outcome::locked},
    {"Locked_IsNotRefreshedWithTheSettingOff", with(Settings{}, locked_leave), with(kNative, locked),
     with(Membership{}, seen(2 * kHour)), Outcome::locked},
    {"Locked_SettingOffChangesNothingForDeactivated", with(Settings{}, locked_leave),
     with(kNative, deactivated), kStranger, Outcome::joined},
    {"Deactivated_SettingOffChangesNothingForOthers", with(Settings{}, deactivated_leave), kNative, kStranger,
     Outcome::joined},

    // server_name (ours): only its users are local
    {"Remote_LocalUser", with(Settings{}, example_com), kNative, kStranger, Outcome::joined},
    {"Remote_OtherServer", with(Settings{}, example_com), Account{}, kStranger, Outcome::remote,
     "@alice:elsewhere.org"},
    {"Remote_BeforeEveryKind", with(Settings{}, example_com, ten_trial_days, deactivated_leave),
     with(Account{}, registered(0), guest, support, deactivated, bridged), kStranger, Outcome::remote,
     "@alice:elsewhere.org"},
    {"Remote_OffBeforeRemote", with(Settings{}, example_com, no_stats), Account{}, kStranger, Outcome::off,
     "@alice:elsewhere.org"},
};
INSTANTIATE_TEST_SUITE_P(Rules, Sighting, testing::ValuesIn(kSightings), name_of<SightingRow>);

/// Every combination of what the rules ask, in the order of precedence: the first that holds decides.
TEST(Precedence, OfRecording) {
    for (unsigned bits = 0; bits < 1u << 10; ++bits) {
        const auto has = [bits](int i) { return (bits >> i & 1) != 0; };
        Settings settings = with(Settings{}, ten_trial_days, deactivated_leave, locked_leave, example_com);
        Account account = kNative;
        Membership membership;
        std::vector<Outcome> order;
        const auto when = [&](bool holds, Outcome outcome) {
            if (holds) order.push_back(outcome);
        };
        if (has(0)) no_stats(settings);
        when(has(0), Outcome::off);
        const std::string_view user_id = has(1) ? "@alice:elsewhere.org" : kAlice;
        when(has(1), Outcome::remote);
        if (has(2)) bridged(account);
        when(has(2), Outcome::appservice);
        if (has(3)) guest(account);
        when(has(3), Outcome::guest);
        if (has(4)) account.registered_at = kNow - kDay;
        when(has(4), Outcome::trial);
        if (has(5)) support(account);
        when(has(5), Outcome::support);
        if (has(6)) deactivated(account);
        when(has(6), Outcome::deactivated);
        if (has(9)) locked(account);
        when(has(9), Outcome::locked);
        if (has(7)) seen(kMinute)(membership);
        when(has(7), Outcome::unchanged);
        if (has(8) && !has(7)) seen(2 * kHour)(membership);
        when(has(8), Outcome::refreshed);
        order.push_back(Outcome::joined);
        EXPECT_EQ(judge_sighting(settings, user_id, account, membership, kNow), order.front())
            << "bits " << bits;
    }
}

TEST(Outcomes, HaveTheNamesOfTheDesign) {
    const char* const names[] = {"joined",     "refreshed",   "unchanged", "guest",  "trial", "support",
                                 "appservice", "deactivated", "locked",    "remote", "full",  "off"};
    const Outcome outcomes[] = {Outcome::joined,     Outcome::refreshed,   Outcome::unchanged,
                                Outcome::guest,      Outcome::trial,       Outcome::support,
                                Outcome::appservice, Outcome::deactivated, Outcome::locked,
                                Outcome::remote,     Outcome::full,        Outcome::off};
    ASSERT_EQ(std::size(names), static_cast<std::size_t>(kOutcomes));
    for (std::size_t i = 0; i < std::size(names); ++i) EXPECT_STREQ(name(outcomes[i]), names[i]);
}

TEST(Defaults, AreThoseOfTheDesign) {
    const Settings settings;
    EXPECT_FALSE(settings.limit_usage_by_mau);
    EXPECT_EQ(settings.max_mau_value, 0);
    EXPECT_TRUE(settings.mau_stats_only);
    EXPECT_EQ(settings.mau_trial_days, 0);
    EXPECT_FALSE(settings.track_appservice_user_ips);
    EXPECT_FALSE(settings.hs_disabled);
    EXPECT_TRUE(settings.count_deactivated_users);
    EXPECT_TRUE(settings.count_locked_users);
    EXPECT_EQ(settings.last_seen_granularity, kHour);
}

// --- Seats
// -----------------------------------------------------------------------------------------------------

TEST(Seats, OnlyCountedNewcomersUnderALimitTakeOne) {
    const Settings limit = with(Settings{}, limited);
    EXPECT_TRUE(needs_seat(limit, kNative, kStranger)) << "a native newcomer";
    EXPECT_TRUE(needs_seat(limit, with(kNative, empty_appservice), kStranger)) << "'' is native";
    EXPECT_TRUE(needs_seat(limit, Account{}, kStranger)) << "an unknown user counts as native";
    EXPECT_FALSE(needs_seat(Settings{}, kNative, kStranger)) << "no limit";
    EXPECT_TRUE(takes_seat(kNative, kStranger)) << "but a seat, should the limit be switched on";
    EXPECT_FALSE(needs_seat(limit, with(kNative, bridged), kStranger)) << "appservice users are not counted";
    EXPECT_FALSE(needs_seat(limit, kNative, with(Membership{}, reserved))) << "reserved users hold theirs";
}

TEST(Seats, FullMeansCountAtLeastMaximum) {
    const Settings settings = with(Settings{}, limited, [](Settings& s) { s.max_mau_value = 14; });
    EXPECT_FALSE(full(settings, 0));
    EXPECT_FALSE(full(settings, 13));
    EXPECT_TRUE(full(settings, 14));
    EXPECT_TRUE(full(settings, 15));
    EXPECT_TRUE(full(with(Settings{}, limited), 0)) << "a limit without max_mau_value: the maximum is 0";
}

TEST(Seats, TheFigureIsNatives) {
    EXPECT_TRUE(counted(kNative));
    EXPECT_TRUE(counted(with(kNative, empty_appservice)));
    EXPECT_TRUE(counted(Account{}));
    EXPECT_FALSE(counted(with(kNative, bridged)));
}

TEST(Window, MembershipHolds) {
    EXPECT_FALSE(Membership{}.holds(kNow));
    EXPECT_TRUE(with(Membership{}, seen(0)).holds(kNow));
    EXPECT_TRUE(with(Membership{}, seen(-kDay)).holds(kNow)) << "seen in the future";
    EXPECT_TRUE(with(Membership{}, seen(kThirtyDays)).holds(kNow)) << "exactly 30 days old stays";
    EXPECT_FALSE(with(Membership{}, seen(kThirtyDays + 1)).holds(kNow)) << "gone a millisecond later";
    EXPECT_TRUE(with(Membership{}, seen(10'000 * kDay), reserved).holds(kNow)) << "reserved: for ever";
    EXPECT_FALSE(with(Membership{}, reserved).holds(kNow)) << "reserved, but not in the table";
}

// --- Which server
// ----------------------------------------------------------------------------------------------

struct LocalRow {
    const char* name;
    const char* server_name;  // null: not set
    std::string_view user_id;
    bool expected;
};

class Local : public testing::TestWithParam<LocalRow> {};

TEST_P(Local, IsAtServerName) {
    Settings settings;
    if (GetParam().server_name) settings.server_name = GetParam().server_name;
    EXPECT_EQ(is_local(settings, GetParam().user_id), GetParam().expected);
}

const LocalRow kLocals[] = {
    {"NotSetEverybodyIsLocal", nullptr, "@alice:elsewhere.org", true},
    {"NotSetEvenWhatIsNoMatrixId", nullptr, "alice@example.com", true},
    {"SameServer", "example.com", "@alice:example.com", true},
    {"OneLetter", "example.com", "@a:example.com", true},
    {"OtherServer", "example.com", "@alice:elsewhere.org", false},
    {"Subdomain", "example.com", "@alice:matrix.example.com", false},
    {"ServerNameIsASuffix", "example.com", "@alice:badexample.com", false},
    {"ServerNameIsAPrefix", "example.com", "@alice:example.com.evil.org", false},
    {"ServerNameAfterASecondColon", "example.com", "@alice:evil.org:example.com", false},
    {"SameServerOnAnotherPort", "example.com", "@alice:example.com:8448", false},
    {"ServerNameWithPort", "example.com:8448", "@alice:example.com:8448", true},
    {"ServerNameWithPortUserWithout", "example.com:8448", "@alice:example.com", false},
    {"ServerNameWithOtherPort", "example.com:8448", "@alice:example.com:443", false},
    {"Ipv6", "[2001:db8::1]:8448", "@alice:[2001:db8::1]:8448", true},
    {"CaseMatters", "example.com", "@alice:Example.com", false},
    {"NoAt", "example.com", "alice:example.com", false},
    {"NoColon", "example.com", "@alice.example.com", false},
    {"ServerNameAlone", "example.com", "example.com", false},
    {"NoLocalpart", "example.com", "@:example.com", false},
    {"Empty", "example.com", "", false},
};
INSTANTIATE_TEST_SUITE_P(Users, Local, testing::ValuesIn(kLocals), name_of<LocalRow>);

// --- Blocking
// --------------------------------------------------------------------------------------------------

struct RequestRow {
    const char* name;
    Settings settings;
    Request request;
    Account account;
    Membership membership;
    Gate expected;
};

class Asked : public testing::TestWithParam<RequestRow> {};

TEST_P(Asked, IsAnsweredAsTheReferenceSays) {
    const RequestRow& row = GetParam();
    EXPECT_EQ(judge_request(row.settings, row.request, row.account, row.membership, kNow), row.expected);
}

Request from_alice() {
    Request request;
    request.user_id = kAlice;
    return request;
}
Request registration(bool threepid = false, bool is_reserved = false,
                     std::optional<std::string_view> user_type = std::nullopt) {
    Request request;
    request.threepid_given = threepid;
    request.threepid_reserved = is_reserved;
    request.user_type = user_type;
    return request;
}
Request with_token(Request request) {
    request.by_appservice = true;
    return request;
}

const Settings kLimit = with(Settings{}, limited);
const Settings kDisabled = with(Settings{}, limited, disabled);

const RequestRow kRequests[] = {
    // the request is authenticated by an appservice and track_appservice_user_ips is off: allowed
    {"Row1_AppserviceTokenUntracked", kLimit, with_token(from_alice()), kNative, kStranger, Gate::open},
    {"Row1_AppserviceTokenUntrackedWhileDisabled", kDisabled, with_token(from_alice()), kNative, kStranger,
     Gate::open},
    {"Row1_AppserviceTokenRegisters", kDisabled, with_token(registration()), Account{}, kStranger,
     Gate::open},
    {"Row1_AppserviceTokenTracked", with(kLimit, tracking), with_token(from_alice()), kNative, kStranger,
     Gate::if_seat},
    {"Row1_AppserviceTokenTrackedWhileDisabled", with(kDisabled, tracking), with_token(from_alice()), kNative,
     kStranger, Gate::disabled},
    {"Row1_AppserviceUserActsThroughIt", kDisabled, from_alice(), with(kNative, bridged), kStranger,
     Gate::open},
    {"Row1_AppserviceUserTracked", with(kLimit, tracking), from_alice(), with(kNative, bridged), kStranger,
     Gate::if_seat},
    {"Row1_EmptyAppserviceIsNative", kLimit, from_alice(), with(kNative, empty_appservice), kStranger,
     Gate::if_seat},

    // user = server_notices_mxid, or a support user: allowed
    {"Row2_ServerNotices", with(kLimit, notices_from_alice), from_alice(), kNative, kStranger, Gate::open},
    {"Row2_ServerNoticesWhileDisabled", with(kDisabled, notices_from_alice), from_alice(), kNative, kStranger,
     Gate::open},
    {"Row2_AnotherUser", with(kLimit, [](Settings& s) { s.server_notices_mxid = "@notices:example.com"; }),
     from_alice(), kNative, kStranger, Gate::if_seat},
    {"Row2_NoticesUserDoesNotOpenRegistration", with(kLimit, notices_from_alice), registration(), Account{},
     kStranger, Gate::if_seat},
    {"Row2_Support", kLimit, from_alice(), with(kNative, support), kStranger, Gate::open},
    {"Row2_SupportWhileDisabled", kDisabled, from_alice(), with(kNative, support), kStranger, Gate::open},

    // hs_disabled: blocked
    {"Row3_Disabled", kDisabled, from_alice(), kNative, kStranger, Gate::disabled},
    {"Row3_DisabledWithoutALimit", with(Settings{}, disabled), from_alice(), kNative, kStranger,
     Gate::disabled},
    {"Row3_DisabledForMembers", kDisabled, from_alice(), kNative, with(Membership{}, seen(0)),
     Gate::disabled},
    {"Row3_DisabledForReservedUsers", kDisabled, from_alice(), kNative, with(Membership{}, seen(0), reserved),
     Gate::disabled},
    {"Row3_DisabledForTrialUsers", with(kDisabled, ten_trial_days), from_alice(),
     with(Account{}, registered(kDay)), kStranger, Gate::disabled},
    {"Row3_DisabledForRegistration", kDisabled, registration(), Account{}, kStranger, Gate::disabled},
    {"Row3_DisabledForAReservedThreepid", kDisabled, registration(true, true), Account{}, kStranger,
     Gate::disabled},
    {"Row3_DisabledForANewSupportUser", kDisabled, registration(false, false, "support"), Account{},
     kStranger, Gate::disabled},

    // limit_usage_by_mau off: allowed
    {"Row4_NoLimit", Settings{}, from_alice(), kNative, kStranger, Gate::open},
    {"Row4_NoLimitForRegistration", Settings{}, registration(), Account{}, kStranger, Gate::open},
    {"Row4_NoLimitThoughNothingIsRecorded", with(Settings{}, no_stats), from_alice(), kNative, kStranger,
     Gate::open},

    // user in the table: allowed
    {"Row5_Member", kLimit, from_alice(), kNative, with(Membership{}, seen(29 * kDay)), Gate::open},
    {"Row5_MemberOfExactlyThirtyDays", kLimit, from_alice(), kNative, with(Membership{}, seen(kThirtyDays)),
     Gate::open},
    {"Row5_ExpiredMember", kLimit, from_alice(), kNative, with(Membership{}, seen(kThirtyDays + 1)),
     Gate::if_seat},
    {"Row5_ReservedMemberOfLongAgo", kLimit, from_alice(), kNative,
     with(Membership{}, seen(1000 * kDay), reserved), Gate::open},
    {"Row5_ReservedUserHoldsTheSeatBeforeTheRow", kLimit, from_alice(), kNative, with(Membership{}, reserved),
     Gate::open},
    {"Row5_DeactivatedMember", kLimit, from_alice(), with(kNative, deactivated),
     with(Membership{}, seen(kDay)), Gate::open},

    // user in trial: allowed
    {"Row6_LastMillisecondOfTrial", with(kLimit, ten_trial_days), from_alice(),
     with(Account{}, registered(10 * kDay - 1)), kStranger, Gate::open},
    {"Row6_EndOfTrial", with(kLimit, ten_trial_days), from_alice(), with(Account{}, registered(10 * kDay)),
     kStranger, Gate::if_seat},
    {"Row6_UnknownUserIsNoTrial", with(kLimit, ten_trial_days), from_alice(), Account{}, kStranger,
     Gate::if_seat},
    {"Row6_AppserviceTrialDaysZero", with(kLimit, ten_trial_days, tracking), from_alice(),
     with(Account{}, registered(kDay), bridged, own_trial(0)), kStranger, Gate::if_seat},
    {"Row6_AppserviceTrialDaysOwn", with(kLimit, tracking), from_alice(),
     with(Account{}, registered(kDay), bridged, own_trial(2)), kStranger, Gate::open},

    // no user, threepid reserved: allowed
    {"Row7_ReservedThreepid", kLimit, registration(true, true), Account{}, kStranger, Gate::open},
    {"Row7_ReservedThreepidOfABot", kLimit, registration(true, true, "bot"), Account{}, kStranger,
     Gate::open},
    {"Row7_OtherThreepid", kLimit, registration(true, false), Account{}, kStranger, Gate::if_seat},

    // no user, no threepid, user type = support: allowed (bot is not)
    {"Row8_NewSupportUser", kLimit, registration(false, false, "support"), Account{}, kStranger, Gate::open},
    {"Row8_NewSupportUserWithAThreepid", kLimit, registration(true, false, "support"), Account{}, kStranger,
     Gate::if_seat},
    {"Row8_NewBot", kLimit, registration(false, false, "bot"), Account{}, kStranger, Gate::if_seat},
    {"Row8_SupportAsAnArgumentOfAUser", kLimit,
     [] {
         Request request = from_alice();
         request.user_type = "support";
         return request;
     }(),
     kNative, kStranger, Gate::if_seat},

    // else: count against the maximum
    {"Row9_Stranger", kLimit, from_alice(), kNative, kStranger, Gate::if_seat},
    {"Row9_UnknownUser", kLimit, from_alice(), Account{}, kStranger, Gate::if_seat},
    {"Row9_Guest", kLimit, from_alice(), with(kNative, guest), kStranger, Gate::if_seat},
    {"Row9_Registration", kLimit, registration(), Account{}, kStranger, Gate::if_seat},
};
INSTANTIATE_TEST_SUITE_P(Rules, Asked, testing::ValuesIn(kRequests), name_of<RequestRow>);

/// Every combination for a user's request, first match decides.
TEST(Precedence, OfBlocking) {
    for (unsigned bits = 0; bits < 1u << 8; ++bits) {
        const auto has = [bits](int i) { return (bits >> i & 1) != 0; };
        Settings settings = with(Settings{}, ten_trial_days);
        Request request = from_alice();
        Account account = kNative;
        Membership membership;
        std::vector<Gate> order;
        const auto when = [&](bool holds, Gate gate) {
            if (holds) order.push_back(gate);
        };
        request.by_appservice = has(0);
        settings.track_appservice_user_ips = has(1);
        when(has(0) && !has(1), Gate::open);
        if (has(2)) notices_from_alice(settings);
        when(has(2), Gate::open);
        account.support = has(3);
        when(has(3), Gate::open);
        settings.hs_disabled = has(4);
        when(has(4), Gate::disabled);
        settings.limit_usage_by_mau = has(5);
        when(!has(5), Gate::open);
        if (has(6)) seen(kDay)(membership);
        when(has(6), Gate::open);
        if (has(7)) account.registered_at = kNow - kDay;
        when(has(7), Gate::open);
        order.push_back(Gate::if_seat);
        EXPECT_EQ(judge_request(settings, request, account, membership, kNow), order.front())
            << "bits " << bits;
    }
}

/// Every combination for a registration.
TEST(Precedence, OfBlockingRegistrations) {
    for (unsigned bits = 0; bits < 1u << 6; ++bits) {
        const auto has = [bits](int i) { return (bits >> i & 1) != 0; };
        Settings settings = with(Settings{}, notices_from_alice);
        const Request request = registration(has(2), has(3),
                                             has(4)   ? "support"
                                             : has(5) ? "bot"
                                                      : std::optional<std::string_view>());
        settings.hs_disabled = has(0);
        settings.limit_usage_by_mau = has(1);
        Gate expected = Gate::if_seat;
        if (has(0))
            expected = Gate::disabled;
        else if (!has(1))
            expected = Gate::open;
        else if (has(2))
            expected = has(3) ? Gate::open : Gate::if_seat;
        else if (has(4))
            expected = Gate::open;
        EXPECT_EQ(judge_request(settings, request, Account{}, Membership{}, kNow), expected)
            << "bits " << bits;
    }
}

// --- The error body
// --------------------------------------------------------------------------------------------

TEST(ErrorBody, IsTheReferencesForTheLimit) {
    Settings settings;
    settings.admin_contact = "mailto:admin@example.com";
    EXPECT_EQ(error_body(settings, Gate::if_seat),
              R"({"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "Monthly Active User Limit Exceeded", )"
              R"("admin_contact": "mailto:admin@example.com", "limit_type": "monthly_active_user"})");
}

TEST(ErrorBody, IsTheReferencesForADisabledServer) {
    Settings settings;
    settings.admin_contact = "mailto:admin@example.com";
    settings.hs_disabled_message = "Back at noon";
    EXPECT_EQ(error_body(settings, Gate::disabled),
              R"({"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "Back at noon", )"
              R"("admin_contact": "mailto:admin@example.com", "limit_type": "hs_disabled"})");
}

TEST(ErrorBody, HasNullWhereThereIsNoContactOrMessage) {
    EXPECT_EQ(error_body(Settings{}, Gate::if_seat),
              R"({"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "Monthly Active User Limit Exceeded", )"
              R"("admin_contact": null, "limit_type": "monthly_active_user"})");
    EXPECT_EQ(error_body(Settings{}, Gate::disabled),
              R"({"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": null, )"
              R"("admin_contact": null, "limit_type": "hs_disabled"})");
}

/// RFC 8259, section 7: quotation mark, reverse solidus and U+0000 to U+001F must be escaped; all else may
/// stand.
TEST(ErrorBody, EscapesAsRfc8259Demands) {
    const auto contact = [](std::string text) {
        Settings settings;
        settings.admin_contact = std::move(text);
        const std::string body = error_body(settings, Gate::if_seat);
        const std::string before = R"("admin_contact": )", after = R"(, "limit_type")";
        const auto from = body.find(before) + before.size();
        return body.substr(from, body.rfind(after) - from);
    };
    EXPECT_EQ(contact(""), R"("")");
    EXPECT_EQ(contact("say \"no\""), R"("say \"no\"")");
    EXPECT_EQ(contact("C:\\admin\\"), R"("C:\\admin\\")");
    EXPECT_EQ(contact("a\nb\tc\rd\be\f"), R"("a\u000ab\u0009c\u000dd\u0008e\u000c")");
    for (int c = 1; c < 0x20; ++c) {
        char expected[16];
        std::snprintf(expected, sizeof expected, "\"\\u%04x\"", static_cast<unsigned>(c));
        EXPECT_EQ(contact(std::string(1, static_cast<char>(c))), expected);
    }
    EXPECT_EQ(contact(std::string(1, '\0')), R"("\u0000")");
    EXPECT_EQ(contact(" \x7f/"), "\" \x7f/\"");
    EXPECT_EQ(contact("Zoë 会議 🙂"), "\"Zoë 会議 🙂\"");
}

TEST(ErrorBody, EscapesTheMessageToo) {
    Settings settings;
    settings.hs_disabled_message = "closed, \"really\"\n";
    EXPECT_NE(error_body(settings, Gate::disabled).find(R"("error": "closed, \"really\"\u000a",)"),
              std::string::npos);
}

// --- In words
// --------------------------------------------------------------------------------------------------

TEST(InWords, TakesTheTwoLargestUnits) {
    EXPECT_EQ(in_words(0), "0 s");
    EXPECT_EQ(in_words(1), "1 ms");
    EXPECT_EQ(in_words(999), "999 ms");
    EXPECT_EQ(in_words(kSecond), "1 s");
    EXPECT_EQ(in_words(61 * kSecond), "1 min 1 s");
    EXPECT_EQ(in_words(kHour), "1 h");
    EXPECT_EQ(in_words(2 * kDay + 3 * kHour), "2 d 3 h");
    EXPECT_EQ(in_words(2 * kDay + 3 * kHour + 4 * kMinute + 5), "2 d 3 h");
    EXPECT_EQ(in_words(kDay - 1), "23 h 59 min");
    EXPECT_EQ(in_words(kThirtyDays), "30 d");
    EXPECT_EQ(in_words(-90 * kMinute), "-1 h 30 min");
}

// --- The rules that explain receives
// --------------------------------------------------------------------------------------

struct Told {
    std::string rule;
    bool holds;
    std::string detail;
};

class Notes : public Trace {
  public:
    void rule(const char* name, bool holds, const std::string& detail) override {
        told.push_back({name, holds, detail});
    }
    std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const Told& t : told) names.push_back(t.rule);
        return names;
    }
    std::vector<Told> told;
};

TEST(Explain, TellsTheRulesOfRecordingInOrder) {
    Notes notes;
    EXPECT_EQ(judge_sighting(Settings{}, kAlice, kNative, with(Membership{}, seen(2 * kHour)), kNow, &notes),
              Outcome::refreshed);
    EXPECT_EQ(notes.names(), (std::vector<std::string>{
                                 "recording is off", "user of another server", "untracked appservice user",
                                 "guest", "on trial", "support user", "deactivated user", "locked user",
                                 "member of the cohort", "seen within the granularity"}));
    for (const Told& told : notes.told)
        EXPECT_EQ(told.holds, told.rule == "member of the cohort") << told.rule;
}

TEST(Explain, TellsTheRulesOfBlockingInOrder) {
    Notes user, threepid, registers;
    EXPECT_EQ(judge_request(kLimit, from_alice(), kNative, kStranger, kNow, &user), Gate::if_seat);
    EXPECT_EQ(user.names(),
              (std::vector<std::string>{"request of an untracked appservice", "server notices user",
                                        "support user goes ahead", "server is disabled", "no limit",
                                        "member goes ahead", "trial user goes ahead"}));
    EXPECT_EQ(judge_request(kLimit, registration(true), Account{}, kStranger, kNow, &threepid),
              Gate::if_seat);
    EXPECT_EQ(threepid.names().back(), "reserved threepid goes ahead");
    EXPECT_EQ(threepid.told.size(), 6u);
    EXPECT_EQ(judge_request(kLimit, registration(), Account{}, kStranger, kNow, &registers), Gate::if_seat);
    EXPECT_EQ(registers.names().back(), "new support user goes ahead");
    for (const Told& told : user.told) EXPECT_FALSE(told.holds) << told.rule;
}

TEST(Explain, StopsAtTheRuleThatDecidesAndAnswersTheSame) {
    for (const SightingRow& row : kSightings) {
        Notes notes;
        EXPECT_EQ(judge_sighting(row.settings, row.user_id, row.account, row.membership, kNow, &notes),
                  row.expected)
            << row.name;
        ASSERT_FALSE(notes.told.empty()) << row.name;
        // Nobody but the last holds, except that "member" asks for the granularity after it.
        for (std::size_t i = 0; i + 1 < notes.told.size(); ++i)
            EXPECT_EQ(notes.told[i].holds, notes.told[i].rule == "member of the cohort") << row.name;
        EXPECT_EQ(notes.told.back().holds,
                  row.expected != Outcome::joined && row.expected != Outcome::refreshed)
            << row.name;
        for (const Told& told : notes.told)
            EXPECT_FALSE(told.detail.empty()) << row.name << ": " << told.rule;
    }
    for (const RequestRow& row : kRequests) {
        Notes notes;
        EXPECT_EQ(judge_request(row.settings, row.request, row.account, row.membership, kNow, &notes),
                  row.expected)
            << row.name;
        for (std::size_t i = 0; i + 1 < notes.told.size(); ++i) EXPECT_FALSE(notes.told[i].holds) << row.name;
        EXPECT_EQ(notes.told.back().holds, row.expected != Gate::if_seat) << row.name;
        for (const Told& told : notes.told)
            EXPECT_FALSE(told.detail.empty()) << row.name << ": " << told.rule;
    }
}

TEST(Explain, GivesTheFacts) {
    const auto detail_of = [](const Notes& notes, const std::string& rule) {
        for (const Told& told : notes.told)
            if (told.rule == rule) return told.detail;
        return std::string("(not told)");
    };
    Notes trial;
    judge_sighting(with(Settings{}, ten_trial_days), kAlice, with(Account{}, registered(3 * kDay + kHour)),
                   kStranger, kNow, &trial);
    EXPECT_EQ(detail_of(trial, "on trial"), "10 trial days; registered 3 d 1 h before");
    Notes member;
    judge_sighting(Settings{}, kAlice, kNative, with(Membership{}, seen(29 * kDay)), kNow, &member);
    EXPECT_EQ(detail_of(member, "member of the cohort"), "last seen 29 d before; expires in 1 d");
    Notes expired;
    judge_sighting(Settings{}, kAlice, kNative, with(Membership{}, seen(31 * kDay)), kNow, &expired);
    EXPECT_EQ(detail_of(expired, "member of the cohort"), "last seen 31 d before: expired");
    Notes held;
    judge_sighting(Settings{}, kAlice, kNative, with(Membership{}, seen(31 * kDay), reserved), kNow, &held);
    EXPECT_EQ(detail_of(held, "member of the cohort"),
              "last seen 31 d before; reserved, the seat is held for ever");
    Notes bridge;
    judge_sighting(Settings{}, kAlice, with(kNative, bridged), kStranger, kNow, &bridge);
    EXPECT_EQ(detail_of(bridge, "untracked appservice user"),
              "appservice irc-bridge, track_appservice_user_ips off");
}

}  // namespace
}  // namespace mau
