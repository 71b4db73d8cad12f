#include "history/questions.hpp"

#include <algorithm>

#include "history/arguments.hpp"
#include "history/kept.hpp"

namespace mau::history {

std::optional<DayRange> touched(const Config& config, DayRange days, Day back, Day ahead) {
    const auto known = extent(config);
    if (!known) return std::nullopt;
    const DayRange cut{std::max(days.first, known->first - ahead), std::min(days.last, known->last + back)};
    return cut.first > cut.last ? std::nullopt : std::optional(cut);
}

std::int64_t active(const Config& config, const Question& question, DayRange days, std::size_t min_days) {
    check_min_days(min_days, length(days));
    KeptDays().require(days.first);
    const auto range = touched(config, days, 0, 0);
    if (!range || min_days > length(*range)) return 0;
    std::int64_t users = 0;
    Layout layout{*range};
    if (min_days == 1) layout.row_of.assign(length(*range), 0);  // all of them in one
    const bitmap::BitRows space = scratch(bitmap::days_active_scratch(length(*range)) + 1);
    const bitmap::DayCounts counts(space, length(*range));
    bitmap::Bits& who = space[space.size() - 1];
    Chunks chunks(config, question, layout);
    while (chunks.next()) {
        if (min_days == 1) {
            users += chunks.days()[0].count();
            continue;
        }
        counts.clear();
        do {
            counts.add(chunks.days(), 0, chunks.days().size());
        } while (chunks.next_block());
        users += counts.at_least(min_days, who);
    }
    chunks.close();
    return users;
}

std::vector<std::int64_t> days_active(const Config& config, const Question& question, DayRange days) {
    KeptDays().require(days.first);
    std::vector<std::int64_t> users(length(days) + 1, 0);
    if (const auto range = touched(config, days, 0, 0)) {
        const bitmap::DayCounts counts(scratch(bitmap::days_active_scratch(length(*range))), length(*range));
        Chunks chunks(config, question, {*range});
        while (chunks.next()) {
            counts.clear();
            do {
                counts.add(chunks.days(), 0, chunks.days().size());
            } while (chunks.next_block());
            counts.histogram(users.data());
        }
        chunks.close();
    }
    users.erase(users.begin());
    return users;
}

std::vector<std::vector<std::int64_t>> series(const Config& config, const Question& question, DayRange days,
                                              const std::vector<std::size_t>& windows, std::size_t min_days,
                                              std::vector<std::int64_t>* arrived) {
    std::vector<std::vector<std::int64_t>> counts(windows.size(), std::vector<std::int64_t>(length(days), 0));
    if (arrived) arrived->assign(length(days), 0);
    const auto of_window = [&](std::size_t window) { return window == 1 ? std::size_t{1} : min_days; };
    std::size_t most = 1;
    for (const std::size_t window : windows)
        most = std::max(most, bitmap::rolling_scratch(window, of_window(window)));
    const std::size_t longest = *std::max_element(windows.begin(), windows.end());
    const bitmap::BitRows space = scratch(most);
    Layout layout{days};
    layout.before = arrived != nullptr;
    for_blocks(config, question, days, layout, static_cast<Day>(longest) - 1, 0, [&](const Block& block) {
        const bitmap::BitRows rows = block.days();
        for (std::size_t i = 0; i < windows.size(); ++i) {
            check_for_interrupts();
            bitmap::rolling(rows, block.from, block.to, windows[i], of_window(windows[i]), space,
                            counts[i].data() + block.offset);
        }
        if (!arrived) return;
        bitmap::Bits& ever = space[0];
        ever = block.chunks.before();
        for (std::size_t row = 0; row < block.from; ++row) ever |= rows[row];
        bitmap::first_seen(rows, block.from, block.to, ever, arrived->data() + block.offset);
    });
    return counts;
}

}  // namespace mau::history

namespace mau {
namespace {

using namespace history;

Datum daily_series(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const DayRange days = range_of(fcinfo, 0, today(), 30);
    const Question question = question_of(args, 2, 3, 5);
    const std::size_t min_days = number_of(fcinfo, 4, "min_days", 1, 1, kLongestWindow);
    const std::size_t window = number_of(fcinfo, 6, "window_days", 30, 1, kLongestWindow);
    check_min_days(min_days, window);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const KeptDays kept;
        kept.require(days.last);
        std::vector<std::int64_t> arrived;
        const auto counts = series(*config::config(), question, days, {1, 7, window}, min_days, &arrived);
        for (std::size_t i = 0; i < length(days); ++i) {
            const Day day = days.first + static_cast<Day>(i), begin = day - static_cast<Day>(window) + 1;
            result.add({cell(day), kept.figure(day, counts[0][i]), kept.figure(day - 6, counts[1][i]),
                        kept.figure(begin, counts[2][i]),
                        kept.reach(begin) ? ratio(counts[0][i], counts[2][i]) : std::nullopt,
                        kept.figure(day, arrived[i])});
        }
    });
    return Datum(0);
}

Datum growth(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const DayRange days = range_of(fcinfo, 0, today(), 30);
    const Question question = question_of(args, 2, 3, 5);
    const std::size_t min_days = number_of(fcinfo, 4, "min_days", 1, 1, kLongestWindow);
    const std::size_t window = number_of(fcinfo, 6, "window_days", 30, 1, kLongestWindow);
    check_min_days(min_days, window);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const KeptDays kept;
        kept.require(days.last);
        std::vector<bitmap::Growth> growth(length(days), bitmap::Growth{});
        const bitmap::BitRows space = scratch(bitmap::grow_scratch(window, min_days));
        Layout layout{days};
        layout.before = true;
        for_blocks(*config::config(), question, days, layout, static_cast<Day>(2 * window) - 1, 0,
                   [&](const Block& block) {
                       bitmap::grow(block.days(), block.from, block.to, window, min_days,
                                    &block.chunks.before(), space, growth.data() + block.offset);
                   });
        for (std::size_t i = 0; i < growth.size(); ++i) {
            const bitmap::Growth& g = growth[i];
            const Day day = days.first + static_cast<Day>(i);
            const Day begin = day - static_cast<Day>(window) + 1, before = begin - static_cast<Day>(window);
            result.add({cell(day), kept.figure(begin, g.active()),
                        kept.figure(before, g.retained + g.churned), kept.figure(begin, g.arrived),
                        kept.figure(before, g.retained), kept.figure(before, g.resurrected),
                        kept.figure(before, g.churned),
                        kept.reach(before) ? ratio(g.arrived + g.resurrected, g.churned) : std::nullopt});
        }
    });
    return Datum(0);
}

Datum days_active(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Day last = day_of(args.instant(0));
    const Day period = days_of(fcinfo, 1);
    const Question question = question_of(args, 2, 3, 4);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const auto users = history::days_active(*config::config(), question, ending(last, period));
        for (std::size_t i = 0; i < users.size(); ++i) result.add({static_cast<int>(i) + 1, users[i]});
    });
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_daily_series, daily_series);
MAU_FUNCTION(mau_growth, growth);
MAU_FUNCTION(mau_days_active, days_active);

}  // namespace mau
