#include "billing.hpp"
#include "chart.hpp"
#include "trend.hpp"

#include "history_questions.hpp"

#include <algorithm>
#include <cmath>

#include "history.hpp"
#include "pg/values.hpp"

namespace mau::history {

namespace {

constexpr Day kBlock = 1500;          // days that are worked on at once: 12 MB
constexpr Day kLongestRange = 36525;  // a hundred years of rows
constexpr Day kLongestPeriod = 3660;  // ten years: 30 MB
constexpr Day kLongestWindow = 1000;

std::size_t length(DayRange days) {
    return static_cast<std::size_t>(days.last - days.first + 1);
}

/// The days of a range on which a window that reaches `back` days back and `ahead` ahead can hold any
/// history.
std::optional<DayRange> touched(const World& world, DayRange days, Day back, Day ahead) {
    const auto known = extent(world);
    if (!known) return std::nullopt;
    const DayRange cut{std::max(days.first, known->first - ahead), std::min(days.last, known->last + back)};
    return cut.first > cut.last ? std::nullopt : std::optional(cut);
}

/// What a body of `for_chunks` works on: rows [from, to) are the days asked for, which begin at `offset` of
/// the range.
struct Block {
    Chunks& chunks;
    std::size_t from, to, offset;
    bitmap::Rows days(Platform platform = Platform::unknown) const { return chunks.days(platform); }
};

/// Calls the body for each chunk of each block of the days.
template <class Body>
void for_chunks(const World& world, const Question& question, DayRange days, Layout layout, Day back,
                Day ahead, Body&& body) {
    const auto range = touched(world, days, back, ahead);
    if (!range) return;
    for (Day first = range->first; first <= range->last; first += kBlock) {
        const Day last = std::min(range->last, first + kBlock - 1);
        layout.days = {first - back, last + ahead};
        Chunks chunks(world, question, layout);
        const auto from = static_cast<std::size_t>(back);
        while (chunks.next())
            body(Block{chunks, from, from + static_cast<std::size_t>(last - first + 1),
                       static_cast<std::size_t>(first - days.first)});
        chunks.close();
    }
}

/// A period's days as far as there is history; errors: 22023 for more than ten years of it.
std::optional<DayRange> period_of(const World& world, DayRange days) {
    const auto range = touched(world, days, 0, 0);
    if (range && range->last - range->first >= kLongestPeriod)
        throw Error(sqlstate::invalid_parameter, "the period is too long",
                    "It has " + std::to_string(length(*range)) + " days of history.",
                    "Ask for at most " + std::to_string(kLongestPeriod) + " days.");
    return range;
}

}  // namespace

std::int64_t active(const World& world, const Question& question, DayRange days, std::size_t min_days) {
    const auto range = min_days == 1 ? touched(world, days, 0, 0) : period_of(world, days);
    if (!range || min_days > length(*range)) return 0;
    std::int64_t users = 0;
    Layout layout{*range};
    if (min_days == 1) layout.row_of.assign(length(*range), 0);  // all of them in one
    Chunks chunks(world, question, layout);
    const bitmap::Rows space = scratch(bitmap::days_active_scratch(length(*range)) + 1);
    while (chunks.next())
        users += min_days == 1 ? chunks.days()[0].count()
                               : bitmap::active_at_least(chunks.days(), 0, length(*range), min_days, space,
                                                         space[space.size() - 1]);
    chunks.close();
    return users;
}

std::vector<std::int64_t> days_active(const World& world, const Question& question, DayRange days) {
    std::vector<std::int64_t> counts(length(days) + 1, 0);
    if (const auto range = period_of(world, days)) {
        Chunks chunks(world, question, {*range});
        const bitmap::Rows space = scratch(bitmap::days_active_scratch(length(*range)));
        while (chunks.next()) bitmap::days_active(chunks.days(), 0, length(*range), space, counts.data());
        chunks.close();
    }
    counts.erase(counts.begin());
    return counts;
}

std::vector<std::vector<std::int64_t>> series(const World& world, const Question& question, DayRange days,
                                              const std::vector<std::size_t>& windows, std::size_t min_days,
                                              std::vector<std::int64_t>* arrived) {
    std::vector<std::vector<std::int64_t>> counts(windows.size(), std::vector<std::int64_t>(length(days), 0));
    if (arrived) arrived->assign(length(days), 0);
    const auto of_window = [&](std::size_t window) { return window == 1 ? std::size_t{1} : min_days; };
    std::size_t most = 1;
    for (const std::size_t window : windows)
        most = std::max(most, bitmap::rolling_scratch(window, of_window(window)));
    const std::size_t longest = *std::max_element(windows.begin(), windows.end());
    const bitmap::Rows space = scratch(most);
    Layout layout;
    layout.before = arrived != nullptr;
    for_chunks(world, question, days, layout, static_cast<Day>(longest) - 1, 0, [&](const Block& block) {
        const bitmap::Rows rows = block.days();
        for (std::size_t i = 0; i < windows.size(); ++i) {
            check_for_interrupts();
            bitmap::rolling(rows, block.from, block.to, windows[i], of_window(windows[i]), space,
                            counts[i].data() + block.offset);
        }
        if (!arrived) return;
        bitmap::Bits& ever = block.chunks.before();
        for (std::size_t row = 0; row < block.from; ++row) ever |= rows[row];
        bitmap::first_seen(rows, block.from, block.to, ever, arrived->data() + block.offset);
    });
    return counts;
}

}  // namespace mau::history

namespace mau {
namespace {

using history::Question;

// --- Arguments
// -----------------------------------------------------------------------------------------------------

Day today() {
    return day_of(pg::to_instant(GetCurrentTimestamp()));
}

/// A date argument, or nothing for NULL. Errors: 22008 outside 1970 to 2999.
std::optional<Day> optional_day(FunctionCallInfo fcinfo, int i, const char* name) {
    if (fcinfo->args[i].isnull) return std::nullopt;
    const DateADT date = DatumGetDateADT(fcinfo->args[i].value);
    const std::int64_t day = DATE_NOT_FINITE(date) ? -1 : std::int64_t{history::from_date_datum(date)};
    if (day < kFirstDay || day > kLastDay)
        throw Error(sqlstate::datetime_out_of_range, std::string(name) + " is out of range",
                    DATE_NOT_FINITE(date) ? "It is infinite."
                                          : "It is " + std::to_string(day) + " days from 1970-01-01.",
                    "Days from 1970-01-01 to 2999-12-31 can be asked for.");
    return static_cast<Day>(day);
}

/// The days from argument `i` to the next one; NULL: up to `last`, and `days` of them.
DayRange range_of(FunctionCallInfo fcinfo, int i, Day last, Day days) {
    DayRange range;
    range.last = optional_day(fcinfo, i + 1, "to_day").value_or(last);
    range.first = optional_day(fcinfo, i, "from_day").value_or(std::max(kFirstDay, range.last - days + 1));
    if (range.first > range.last)
        throw Error(sqlstate::invalid_parameter, "from_day is after to_day",
                    "They are " + day_label(range.first) + " and " + day_label(range.last) + ".",
                    "Swap them.");
    if (range.last - range.first >= history::kLongestRange)
        throw Error(sqlstate::invalid_parameter, "too many days",
                    "They are " + std::to_string(history::length(range)) + ".",
                    "Ask for at most " + std::to_string(history::kLongestRange) + ".");
    return range;
}

/// The same for whole periods; NULL: up to `last`, and `count` of them.
DayRange range_of(FunctionCallInfo fcinfo, int i, Day last, Period unit, int count) {
    last = optional_day(fcinfo, i + 1, "to_day").value_or(last);
    const std::int32_t first = std::max(0, period_index(unit, last) - count + 1);
    return range_of(fcinfo, i, last, last - std::max(kFirstDay, period_first(unit, first)) + 1);
}

/// An integer argument within limits; NULL: `otherwise`.
std::size_t number_of(FunctionCallInfo fcinfo, int i, const char* name, int otherwise, int least, int most) {
    const int value = fcinfo->args[i].isnull ? otherwise : DatumGetInt32(fcinfo->args[i].value);
    if (value < least || value > most)
        throw Error(sqlstate::invalid_parameter, std::string(name) + " is out of range",
                    "It is " + std::to_string(value) + ".",
                    "It is from " + std::to_string(least) + " to " + std::to_string(most) + ".");
    return static_cast<std::size_t>(value);
}

/// What service, platform and kind ask for; an argument number of -1 leaves its default.
Question question_of(const pg::Arguments& args, int service, int platform, int kind) {
    Question question;
    question.service = "native";
    if (service >= 0) {
        question.service.reset();
        if (const auto name = args.text(service)) question.service = std::string(*name);
    }
    if (platform >= 0 && !args.is_null(platform)) {
        const std::string_view called = *args.text(platform);
        question.platform = platform_called(called);
        if (!question.platform) {
            std::string known;
            for (int p = 0; p < kPlatforms; ++p)
                known += (p == 0 ? "" : ", ") + std::string(name(static_cast<Platform>(p)));
            throw Error(sqlstate::invalid_parameter, "unknown platform",
                        "It is \"" + std::string(called) + "\".",
                        "The platforms are: " + known + "; NULL for any.");
        }
    }
    if (kind >= 0 && !args.is_null(kind)) question.kind = history::kind_called(*args.text(kind));
    return question;
}

/// A period's length in days, rounded up.
Day days_of(FunctionCallInfo fcinfo, int i) {
    if (fcinfo->args[i].isnull)
        throw Error(sqlstate::invalid_parameter, "period must not be NULL", {},
                    "Pass an interval such as '30 days'.");
    const Interval period = *DatumGetIntervalP(fcinfo->args[i].value);
    const std::int64_t days = std::int64_t{period.day} + std::int64_t{period.month} * 30 +
                              (period.time + USECS_PER_DAY - 1) / USECS_PER_DAY;
    if (days <= 0 || days > history::kLongestRange)
        throw Error(sqlstate::invalid_parameter, "period is out of range",
                    "It is " + std::to_string(days) + " days.", "Pass an interval such as '30 days'.");
    return static_cast<Day>(days);
}

/// The UTC days of a period that ends with the day of an instant.
DayRange ending(Day last, Day days) {
    return {last - days + 1, last};
}

pg::ResultSet::Cell cell(Day day) {
    return pg::ResultSet::Cell::of(DateADTGetDatum(history::to_date_datum(day)));
}

std::optional<double> ratio(std::int64_t part, std::int64_t whole) {
    if (whole == 0) return std::nullopt;
    return static_cast<double>(part) / static_cast<double>(whole);
}

// --- Series
// --------------------------------------------------------------------------------------------------------

Datum daily_series(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const DayRange days = range_of(fcinfo, 0, today(), 30);
    const Question question = question_of(args, 2, 3, 5);
    const std::size_t min_days = number_of(fcinfo, 4, "min_days", 1, 1, history::kLongestWindow);
    const std::size_t window = number_of(fcinfo, 6, "window_days", 30, 1, history::kLongestWindow);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        std::vector<std::int64_t> arrived;
        const auto counts =
            history::series(directory::world(), question, days, {1, 7, window}, min_days, &arrived);
        for (std::size_t i = 0; i < history::length(days); ++i)
            result.add({cell(days.first + static_cast<Day>(i)), counts[0][i], counts[1][i], counts[2][i],
                        ratio(counts[0][i], counts[2][i]), arrived[i]});
    });
    return Datum(0);
}

Datum growth(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const DayRange days = range_of(fcinfo, 0, today(), 30);
    const Question question = question_of(args, 2, 3, 5);
    const std::size_t min_days = number_of(fcinfo, 4, "min_days", 1, 1, history::kLongestWindow);
    const std::size_t window = number_of(fcinfo, 6, "window_days", 30, 1, history::kLongestWindow);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        std::vector<bitmap::Growth> growth(history::length(days), bitmap::Growth{});
        const bitmap::Rows space = history::scratch(bitmap::grow_scratch(window, min_days));
        history::Layout layout;
        layout.before = true;
        history::for_chunks(directory::world(), question, days, layout, static_cast<Day>(2 * window) - 1, 0,
                            [&](const history::Block& block) {
                                history::check_for_interrupts();
                                bitmap::grow(block.days(), block.from, block.to, window, min_days,
                                             &block.chunks.before(), space, growth.data() + block.offset);
                            });
        for (std::size_t i = 0; i < growth.size(); ++i) {
            const bitmap::Growth& g = growth[i];
            result.add({cell(days.first + static_cast<Day>(i)), g.active(), g.retained + g.churned, g.arrived,
                        g.retained, g.resurrected, g.churned, ratio(g.arrived + g.resurrected, g.churned)});
        }
    });
    return Datum(0);
}

Datum days_active(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Day last = day_of(args.instant(0));
    const Day length = days_of(fcinfo, 1);
    const Question question = question_of(args, 2, 3, 4);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const auto counts = history::days_active(directory::world(), question, ending(last, length));
        for (std::size_t i = 0; i < counts.size(); ++i) result.add({static_cast<int>(i) + 1, counts[i]});
    });
    return Datum(0);
}

// --- R30v2 and R30
// -------------------------------------------------------------------------------------------------

/// Synapse counts everybody with visits in its table: support users and bots, no guests, no appservice users.
Question as_synapse_counts() {
    Question question;
    question.service = "native";
    question.kind = history::Kind::not_guest;
    return question;
}

/// The clients in the order in which they are reported; Synapse does not report the unknown.
constexpr Platform kReported[] = {Platform::android, Platform::electron, Platform::ios, Platform::web};

/// The users of all clients and of each.
struct ByClient {
    std::int64_t all = 0;
    std::int64_t of[kPlatforms] = {};
    void report(pg::ResultSet& result) const {
        result.add({"all", all});
        for (const Platform platform : kReported)
            result.add({name(platform), of[static_cast<int>(platform)]});
    }
};

/// The rows of all platforms, united into `out`.
void unite_platforms(const history::Chunks& chunks, std::size_t rows, const bitmap::Rows& out) {
    for (std::size_t row = 0; row < rows; ++row) {
        out[row] = chunks.days(Platform::unknown)[row];
        for (int p = 1; p < kPlatforms; ++p) out[row] |= chunks.days(static_cast<Platform>(p))[row];
    }
}

ByClient r30v2_at(const World& world, Instant at) {
    ByClient users;
    const DayRange days = r30v2_days(at);
    const std::size_t rows = history::length(days);
    const bitmap::Span span{rows - 1, 0, 31};
    const bitmap::Rows space = history::scratch(bitmap::returning_scratch(span));
    const bitmap::Rows united = history::scratch(rows);
    history::Layout layout{days};
    layout.by_platform = true;
    history::Chunks chunks(world, as_synapse_counts(), layout);
    while (chunks.next()) {
        for (const Platform platform : kReported)
            bitmap::returning(chunks.days(platform), rows - 1, rows, span, space,
                              &users.of[static_cast<int>(platform)]);
        unite_platforms(chunks, rows, united);
        bitmap::returning(united, rows - 1, rows, span, space, &users.all);
    }
    chunks.close();
    return users;
}

Datum r30v2(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] { r30v2_at(directory::world(), at).report(result); });
    return Datum(0);
}

Datum r30v2_series(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const DayRange days = range_of(fcinfo, 0, today(), 30);
    Question question = as_synapse_counts();
    question.platform = question_of(args, -1, 2, -1).platform;
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        std::vector<std::int64_t> users(history::length(days), 0);
        const bitmap::Span span;  // at any time of the day but its first second
        const bitmap::Rows space = history::scratch(bitmap::returning_scratch(span));
        history::for_chunks(directory::world(), question, days, {}, static_cast<Day>(span.back),
                            static_cast<Day>(span.ahead), [&](const history::Block& block) {
                                history::check_for_interrupts();
                                bitmap::returning(block.days(), block.from, block.to, span, space,
                                                  users.data() + block.offset);
                            });
        for (std::size_t i = 0; i < users.size(); ++i)
            result.add({cell(days.first + static_cast<Day>(i)), users[i]});
    });
    return Datum(0);
}

/// Of each user the newest visit within 30 days counts, if the account is more than 30 days older.
ByClient r30_at(const World& world, Instant at) {
    constexpr Day kDays = 30;
    ByClient users;
    const Question question = as_synapse_counts();
    const DayRange days = ending(day_of(at), kDays);
    history::Layout layout{days};
    layout.by_platform = true;
    history::Chunks chunks(world, question, layout);
    const bitmap::Rows united = history::scratch(kDays);
    const bitmap::Rows space =
        history::scratch(kDays + 1);  // accounts old enough on each day; those who are in
    while (chunks.next()) {
        space.clear();
        for (const history::Registered& account : history::registered(world, question, chunks.chunk())) {
            const Day old_enough = std::max<Day>(day_of(account.at) + kDays + 1 - days.first, 0);
            if (old_enough < kDays) space[static_cast<std::size_t>(old_enough)].set(account.place);
        }
        for (std::size_t row = 1; row < kDays; ++row) space[row] |= space[row - 1];
        bitmap::Bits& in = space[kDays];
        const auto count = [&](const bitmap::Rows& rows) {
            in.clear();
            for (std::size_t row = 0; row < kDays; ++row) {
                bitmap::Bits seen = rows[row];
                seen &= space[row];
                in |= seen;
            }
            return std::int64_t{in.count()};
        };
        for (const Platform platform : kReported)
            users.of[static_cast<int>(platform)] += count(chunks.days(platform));
        unite_platforms(chunks, kDays, united);
        users.all += count(united);
    }
    chunks.close();
    return users;
}

Datum r30(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] { r30_at(directory::world(), at).report(result); });
    return Datum(0);
}

// --- Retention
// -----------------------------------------------------------------------------------------------------

Datum retention(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    Period unit;
    try {
        unit = period_called(args.required_text(0, "cohort"));
    } catch (const std::invalid_argument& error) {
        throw Error(sqlstate::invalid_parameter, "unknown period", error.what(), "Pass day, week or month.");
    }
    const Day now = day_of(args.instant(6));
    const DayRange range = range_of(fcinfo, 1, now, unit, unit == Period::day ? 30 : 12);
    const Question question = question_of(args, 3, 4, 5);
    const std::int32_t first = period_index(unit, range.first), last = period_index(unit, range.last);
    const auto count = static_cast<std::size_t>(last - first + 1);
    constexpr std::size_t kMost = 1100;  // three years of days
    if (count > kMost)
        throw Error(sqlstate::invalid_parameter, "too many periods",
                    "They are " + std::to_string(count) + ".",
                    "Ask for at most " + std::to_string(kMost) + ", or for longer ones.");
    std::vector<Day> begins;
    for (std::int32_t i = first; i <= last + 1; ++i) begins.push_back(period_first(unit, i));
    const DayRange days{begins.front(), begins.back() - 1};
    history::Layout layout{days};
    for (std::size_t p = 0; p < count; ++p)
        layout.row_of.insert(layout.row_of.end(), static_cast<std::size_t>(begins[p + 1] - begins[p]),
                             static_cast<std::uint32_t>(p));
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const World& world = directory::world();
        std::vector<std::int64_t> sizes(count, 0), active(count * count, 0);
        const bitmap::Rows cohorts = history::scratch(count);
        history::Chunks chunks(world, question, layout);
        const std::int32_t last_chunk = history::last_user_chunk();
        for (std::int32_t chunk = 0; chunk <= last_chunk; ++chunk) {
            cohorts.clear();
            bool any = false;
            for (const history::Registered& account : history::registered(world, question, chunk)) {
                if (account.at < day_start(days.first) || account.at >= day_start(days.last + 1)) continue;
                const Day day = day_of(account.at);
                const std::size_t c = layout.row_of[static_cast<std::size_t>(day - days.first)];
                cohorts[c].set(account.place);
                ++sizes[c];
                any = true;
            }
            if (!any) continue;
            chunks.read(chunk);
            history::check_for_interrupts();
            bitmap::retention(cohorts, chunks.days(), active.data());
        }
        chunks.close();
        for (std::size_t c = 0; c < count; ++c)
            for (std::size_t p = c; p < count; ++p) {
                const bool over = begins[p + 1] <= now;
                const std::int64_t users = active[c * count + p];
                result.add({cell(begins[c]), sizes[c], static_cast<int>(p - c), cell(begins[p]),
                            over ? std::optional(users) : std::nullopt,
                            over ? ratio(users, sizes[c]) : std::nullopt});
            }
    });
    return Datum(0);
}

// --- Billing
// -------------------------------------------------------------------------------------------------------

/// The figures of one service's months.
struct Bill {
    std::int64_t users = 0, over = 0;
};

/// Months are worked on in groups, so that memory is bounded.
void bill(pg::ResultSet& result, const World& world, const Question& question,
          const std::vector<billing::Month>& months, std::size_t more_than) {
    constexpr std::size_t kGroup = 36;
    constexpr Day kBack = 29;
    for (std::size_t begin = 0; begin < months.size(); begin += kGroup) {
        const std::size_t end = std::min(months.size(), begin + kGroup);
        const DayRange days{months[begin].days.first, months[end - 1].days.last};
        std::vector<Bill> bills(end - begin);
        std::vector<std::int64_t> mau(history::length(days), 0);
        const bitmap::Rows space =
            history::scratch(std::max(bitmap::rolling_scratch(30, 1), bitmap::days_active_scratch(31)) + 1);
        bitmap::Bits& who = space[space.size() - 1];
        history::Chunks chunks(world, question, {{days.first - kBack, days.last}});
        while (chunks.next()) {
            const bitmap::Rows rows = chunks.days();
            for (std::size_t m = begin; m < end; ++m) {
                const auto from = static_cast<std::size_t>(months[m].days.first - days.first + kBack);
                const std::size_t to = from + history::length(months[m].days);
                bitmap::unite(rows, from, to, who);
                bills[m - begin].users += who.count();
                bills[m - begin].over += bitmap::active_at_least(rows, from, to, more_than + 1, space, who);
            }
            history::check_for_interrupts();
            bitmap::rolling(rows, kBack, kBack + mau.size(), 30, 1, space, mau.data());
        }
        chunks.close();
        for (std::size_t m = begin; m < end; ++m) {
            const auto summary = billing::summarize(months[m], mau, days.first);
            using Cell = pg::ResultSet::Cell;
            result.add({cell(months[m].days.first), *question.service, bills[m - begin].users,
                        bills[m - begin].over, summary ? Cell(summary->highest) : Cell(),
                        summary ? Cell(summary->mean) : Cell(), months[m].partial});
        }
    }
}

Datum billing_months(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Day now = day_of(args.instant(5));
    const DayRange range = range_of(fcinfo, 0, now, Period::month, 12);
    const std::size_t more_than = number_of(fcinfo, 3, "more_than_days", 2, 0, 31);
    Question question = question_of(args, 2, -1, 4);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const World& world = directory::world();
        const auto known = history::extent(world);
        const auto months = billing::months(range, known ? known->first : now + 1, now);
        const std::vector<std::string> services =
            question.service ? std::vector<std::string>{*question.service} : history::services();
        for (const std::string& service : services) {
            question.service = service;
            bill(result, world, question, months, more_than);
        }
    });
    return Datum(0);
}

// --- Forecast, nodeinfo, charts
// ------------------------------------------------------------------------------------

Datum forecast(FunctionCallInfo fcinfo) {
    constexpr Day kLeast = 14;  // days of history with a whole window: fewer show no trend
    constexpr double kClear = 0.5;
    const pg::Arguments args(fcinfo);
    const Day last = day_of(args.instant(1)) - 1;  // today is not over
    const auto basis = static_cast<Day>(number_of(fcinfo, 2, "days", 90, kLeast, history::kLongestWindow));
    const Question question = question_of(args, 3, -1, -1);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const World& world = directory::world();
        std::optional<std::int64_t> target = args.integer(0);
        if (target && *target < 0)
            throw Error(sqlstate::invalid_parameter, "target must not be negative",
                        "It is " + std::to_string(*target) + ".", "Leave it out to mean max_mau_value.");
        if (!target && world.settings.max_mau_value > 0) target = world.settings.max_mau_value;
        using Cell = pg::ResultSet::Cell;
        const auto row = [&](Cell day, Cell mau, Cell per_day, Cell fit, Cell reaches, Cell left,
                             const std::string& text) {
            result.add({day, mau, Cell(target), per_day, fit, reaches, left, text});
        };

        const auto known = history::extent(world);
        const Day first = known ? std::max(last - basis + 1, known->first + 29) : last + 1;
        if (last - first + 1 < kLeast) {
            row({}, {}, {}, {}, {}, {},
                "no trend: less than " + std::to_string(kLeast) +
                    " days on which 30 days of history lie behind");
            return;
        }
        const auto mau = history::series(world, question, {first, last}, {30}, 1).front();
        const auto line = trend::fit(std::vector<double>(mau.begin(), mau.end()));
        const std::int64_t current = mau.back();
        std::string text = "the monthly active users of the " + std::to_string(mau.size()) +
                           " days up to then go on along a straight line";
        std::optional<Day> reaches;
        if (!target) {
            text = "no limit: max_mau_value is not set";
        } else if (current >= *target) {
            reaches = last;
            text = "reached already";
        } else if (line->per_day <= 0) {
            text = "no trend towards the limit: the figure does not rise";
        } else if (line->r_squared < kClear) {
            text = "no trend: a straight line explains less than half of the ups and downs";
        } else if (const auto day = trend::reaches(*line, static_cast<double>(*target))) {
            // Where the line is above the figure of today, tomorrow is the first day that can be.
            const std::int64_t at = std::max<std::int64_t>(first + *day, last + 1);
            if (at <= kLastDay) reaches = static_cast<Day>(at);
        } else {
            text = "not within a hundred years along a straight line";
        }
        row(cell(last), current, line->per_day, line->r_squared, reaches ? cell(*reaches) : Cell(),
            reaches ? Cell(static_cast<int>(*reaches - last)) : Cell(), text);
    });
    return Datum(0);
}

Datum nodeinfo_usage(FunctionCallInfo fcinfo) {
    const Day last = day_of(pg::Arguments(fcinfo).instant(0));
    static pg::Statement total(
        "SELECT pg_catalog.count(*) FROM mau.users u WHERE u.is_registered AND NOT u.is_guest AND NOT "
        "u.is_deactivated"
        " AND NOT " MAU_U_IS_SUPPORT " AND (" MAU_SERVICE_OF_U
        ") OPERATOR(pg_catalog.=) 'native'"
        " AND u.user_id IS NOT NULL");
    const std::string json = pg::with_spi([&] {
        const World& world = directory::world();
        Question question;
        question.service = "native";
        const std::int64_t month = history::active(world, question, ending(last, 30), 1);
        const std::int64_t half_year = history::active(world, question, ending(last, 180), 1);
        return "{\"users\": {\"total\": " + std::to_string(total.read().at(0, 0).integer()) +
               ", \"activeMonth\": " + std::to_string(month) +
               ", \"activeHalfyear\": " + std::to_string(half_year) + "}}";
    });
    return pg::guard([text = json.c_str()] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(text)); });
}

Datum draw_chart(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string what(args.text(0).value_or(std::string_view()));
    const DayRange days = range_of(fcinfo, 1, today(), 90);
    const std::size_t width = number_of(fcinfo, 3, "width", 72, chart::kLeastWidth, 1000);
    const std::size_t height = number_of(fcinfo, 4, "height", 8, 1, 100);
    const Question question = question_of(args, 5, 6, 7);
    if (what != "dau" && what != "wau" && what != "mau" && what != "stickiness" && what != "new_users")
        throw Error(sqlstate::invalid_parameter, "unknown series",
                    args.is_null(0) ? "It is NULL." : "It is \"" + what + "\".",
                    "The series are: dau, wau, mau, stickiness, new_users.");
    pg::ResultSet result(fcinfo, pg::ResultSet::Shape::column);
    pg::with_spi([&] {
        std::vector<std::int64_t> arrived;
        const auto counts = history::series(directory::world(), question, days, {1, 7, 30}, 1,
                                            what == "new_users" ? &arrived : nullptr);
        std::vector<double> values;
        for (std::size_t i = 0; i < history::length(days); ++i)
            values.push_back(what == "dau"          ? static_cast<double>(counts[0][i])
                             : what == "wau"        ? static_cast<double>(counts[1][i])
                             : what == "mau"        ? static_cast<double>(counts[2][i])
                             : what == "stickiness" ? ratio(counts[0][i], counts[2][i]).value_or(std::nan(""))
                                                    : static_cast<double>(arrived[i]));
        // Blocks have no equivalent in other encodings, and to convert them would be an error.
        const bool unicode = GetDatabaseEncoding() == PG_UTF8 && (pg_get_client_encoding() == PG_UTF8 ||
                                                                  pg_get_client_encoding() == PG_SQL_ASCII);
        for (const std::string& line :
             chart::draw(values, width, height, day_label(days.first), day_label(days.last),
                         unicode ? chart::Style::blocks : chart::Style::ascii))
            result.add({line});
    });
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_daily_series, daily_series);
MAU_FUNCTION(mau_growth, growth);
MAU_FUNCTION(mau_days_active, days_active);
MAU_FUNCTION(mau_r30v2, r30v2);
MAU_FUNCTION(mau_r30v2_series, r30v2_series);
MAU_FUNCTION(mau_r30, r30);
MAU_FUNCTION(mau_retention, retention);
MAU_FUNCTION(mau_billing_months, billing_months);
MAU_FUNCTION(mau_forecast, forecast);
MAU_FUNCTION(mau_nodeinfo_usage, nodeinfo_usage);
MAU_FUNCTION(mau_chart, draw_chart);

}  // namespace mau
