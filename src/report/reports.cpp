// Bills by calendar month, the forecast, NodeInfo's figures, charts.
#include "report/billing.hpp"
#include "report/chart.hpp"
#include "report/trend.hpp"

#include "history/questions.hpp"

#include <algorithm>
#include <cmath>

#include "history/arguments.hpp"
#include "history/kept.hpp"
#include "history/past.hpp"

namespace mau {
namespace {

using namespace history;

/// The figures of one service's months.
struct Bill {
    std::int64_t users = 0, over = 0;
};

/// The first day that the history knows of; nothing if it is empty.
std::optional<Day> first_known(const Config& config, const KeptDays& kept) {
    if (const auto first = kept.first()) return first;
    const auto known = extent(config);
    return known ? std::optional(known->first) : std::nullopt;
}

/// Months are worked on in groups, so that memory is bounded.
void bill(pg::ResultSet& result, const Config& config, const Question& question,
          const std::vector<billing::Month>& months, std::size_t more_than, Day now, const KeptDays& kept,
          const bitmap::BitRows& space) {
    constexpr std::size_t kGroup = 36;  // their days are one block
    constexpr Day kBack = 29;
    for (std::size_t begin = 0; begin < months.size(); begin += kGroup) {
        const std::size_t end = std::min(months.size(), begin + kGroup);
        const DayRange days{months[begin].days.first, months[end - 1].days.last};
        std::vector<Bill> bills(end - begin);
        std::vector<std::int64_t> mau(length(days), 0);
        bitmap::Bits& who = space[space.size() - 1];
        Chunks chunks(config, question, {{days.first - kBack, days.last}});
        while (chunks.next()) {
            const bitmap::BitRows rows = chunks.days();
            for (std::size_t m = begin; m < end; ++m) {
                const auto from = static_cast<std::size_t>(months[m].days.first - days.first + kBack);
                const Day last = std::min(months[m].days.last, now);  // no later days
                if (last < months[m].days.first) break;
                const std::size_t to = from + length({months[m].days.first, last});
                bitmap::unite(rows, from, to, who);
                bills[m - begin].users += who.count();
                bills[m - begin].over += bitmap::active_at_least(rows, from, to, more_than + 1, space, who);
            }
            check_for_interrupts();
            bitmap::rolling(rows, kBack, kBack + mau.size(), 30, 1, space, mau.data());
        }
        chunks.close();
        for (std::size_t m = begin; m < end; ++m) {
            const Day first = months[m].days.first;
            auto summary = billing::summarize(months[m], mau, days.first);
            if (!kept.reach(months[m].known.first - kBack)) summary.reset();
            using Cell = pg::Param;
            result.add({cell(first), *question.service, kept.figure(first, bills[m - begin].users),
                        kept.figure(first, bills[m - begin].over), summary ? Cell(summary->highest) : Cell(),
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
        const auto held = config::config();
        const Config& config = *held;
        const KeptDays kept;
        const auto months = billing::months(range, first_known(config, kept).value_or(now + 1), now);
        const std::vector<std::string> names =
            question.service ? std::vector<std::string>{*question.service} : services();
        const bitmap::BitRows space =
            scratch(std::max(bitmap::rolling_scratch(30, 1), bitmap::days_active_scratch(31)) + 1);
        for (const std::string& service : names) {
            question.service = service;
            bill(result, config, question, months, more_than, now, kept, space);
        }
    });
    return Datum(0);
}

Datum forecast(FunctionCallInfo fcinfo) {
    constexpr Day kLeast = 14;  // days of history with a whole window: fewer show no trend
    constexpr double kClear = 0.5;
    const pg::Arguments args(fcinfo);
    const Day today = day_of(args.instant(1));
    const Day last = today - 1;  // today is not over
    const auto basis = static_cast<Day>(number_of(fcinfo, 2, "days", 90, kLeast, kLongestWindow));
    const Question question = question_of(args, 3, -1, -1);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const auto held = config::config();
        const Config& config = *held;
        std::optional<std::int64_t> target = args.integer(0);
        if (target && *target < 0)
            throw Error(sqlstate::invalid_parameter, "target must not be negative",
                        "It is " + std::to_string(*target) + ".", "Leave it out to mean max_mau_value.");
        if (!target && config.settings.max_mau_value > 0) target = config.settings.max_mau_value;
        using Cell = pg::Param;
        const auto row = [&](Cell day, Cell mau, Cell per_day, Cell fit, Cell reaches, Cell left,
                             const std::string& text) {
            result.add({day, mau, Cell(target), per_day, fit, reaches, left, text});
        };

        const auto known = first_known(config, KeptDays());
        const Day first = known ? std::max(last - basis + 1, *known + 29) : last + 1;
        if (last - first + 1 < kLeast) {
            row({}, {}, {}, {}, {}, {},
                "no trend: less than " + std::to_string(kLeast) +
                    " days on which 30 days of history lie behind");
            return;
        }
        const auto mau = series(config, question, {first, last}, {30}, 1).front();
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
            // Where the line is already above the target today, tomorrow is the first possible day.
            const std::int64_t at = std::max<std::int64_t>(first + *day, last + 1);
            if (at <= kLastDay) reaches = static_cast<Day>(at);
        } else {
            text = "not within a hundred years along a straight line";
        }
        row(cell(last), current, line->per_day, line->r_squared, reaches ? cell(*reaches) : Cell(),
            reaches ? Cell(static_cast<int>(std::max(*reaches - today, 0))) : Cell(), text);
    });
    return Datum(0);
}

Datum nodeinfo_usage(FunctionCallInfo fcinfo) {
    const Instant at = pg::Arguments(fcinfo).instant(0);
    const Day last = day_of(at);
    static pg::Statement total(
        "SELECT count(*) FROM mau.users u WHERE u.is_registered AND NOT u.is_guest AND NOT u.is_deactivated"
        " AND NOT " MAU_U_IS_SUPPORT " AND " MAU_SERVICE_OF_U " = 'native' AND u.user_id IS NOT NULL");
    const std::string json = pg::with_spi([&] {
        past::refuse(at, "The accounts are known as they are now; ask mau.active_users for past days.");
        const auto held = config::config();
        const Config& config = *held;
        Question question;
        question.service = "native";
        std::string users = "\"total\": " + std::to_string(total.read().at(0, 0).integer());
        const KeptDays kept;
        for (const auto& [name, days] : {std::pair("activeMonth", 30), std::pair("activeHalfyear", 180)})
            if (const DayRange range = ending(last, days); kept.reach(range.first))
                users +=
                    ", \"" + std::string(name) + "\": " + std::to_string(active(config, question, range, 1));
        return "{\"users\": {" + users + "}}";
    });
    return pg::jsonb_datum(json);
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
        const KeptDays kept;
        kept.require(days.last);
        std::vector<std::int64_t> arrived;
        const auto counts = series(*config::config(), question, days, {1, 7, 30}, 1,
                                   what == "new_users" ? &arrived : nullptr);
        const Day back = what == "wau" ? 6 : what == "mau" || what == "stickiness" ? 29 : 0;
        std::vector<double> values;
        for (std::size_t i = 0; i < length(days); ++i)
            values.push_back(!kept.reach(days.first + static_cast<Day>(i) - back) ? std::nan("")
                             : what == "dau"        ? static_cast<double>(counts[0][i])
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

MAU_FUNCTION(mau_billing_months, billing_months);
MAU_FUNCTION(mau_forecast, forecast);
MAU_FUNCTION(mau_nodeinfo_usage, nodeinfo_usage);
MAU_FUNCTION(mau_chart, draw_chart);

}  // namespace mau
