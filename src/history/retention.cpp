// Retention: the users who registered in a period, and how many of them were active in it and in each later
// one.
#include "history/signups.hpp"

#include <algorithm>

#include "history/arguments.hpp"
#include "history/kept.hpp"
#include "history/reader.hpp"

#include "history/history.hpp"

namespace mau {
namespace {

using namespace history;

constexpr std::size_t kMostPeriods = 1100;       // three years of days
constexpr std::size_t kMostSignups = 24u << 20;  // bytes
constexpr std::size_t kCohortsAtOnce = 16;

/// Periods of the calendar, one after the other.
struct Periods {
    std::vector<Day> begins;  // and one more: the end of the last
    std::size_t count() const { return begins.size() - 1; }
    DayRange days() const { return {begins.front(), begins.back() - 1}; }
    DayRange of(std::size_t i) const { return {begins[i], begins[i + 1] - 1}; }
};

/// The periods that the days of a range lie in. Errors: 22023 for too many.
Periods periods_of(Period unit, DayRange range) {
    const std::int32_t first = period_index(unit, range.first), last = period_index(unit, range.last);
    const auto count = static_cast<std::size_t>(last - first + 1);
    if (count > kMostPeriods)
        throw Error(sqlstate::invalid_parameter, "too many periods",
                    "They are " + std::to_string(count) + ".",
                    "Ask for at most " + std::to_string(kMostPeriods) + ", or for longer ones.");
    Periods periods;
    for (std::int32_t i = first; i <= last + 1; ++i) periods.begins.push_back(period_first(unit, i));
    return periods;
}

/// The accounts that registered in any of the periods, up to a day, in the order of time: a walk along the
/// index users_registered_at, which has the numbers too.
class SignupWalk {
  public:
    SignupWalk(const Config& config, const Periods& periods, Day last) : periods_(periods) {
        pg::guard([&] {
            walk_.open(config.users_table, "users_registered_at");
            ScanKeyData keys[2];
            ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE,
                        Int64GetDatum(day_start(periods.begins.front())));
            ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT,
                        Int64GetDatum(day_start(std::min(periods.begins.back(), last + 1))));
            walk_.begin(GetActiveSnapshot(), keys, 2);
        });
    }
    /// Adds the next of them; returns false after the last.
    bool add_to(Signups& signups) {
        const int count = pg::guard([&] {
            int n = 0;
            for (; n < kBatch; ++n) {
                const Datum* const entry = walk_.next();
                if (!entry) break;
                while (DatumGetInt64(entry[0]) >= day_start(periods_.begins[cohort_ + 1])) ++cohort_;
                batch_[n] = {DatumGetInt64(entry[1]), static_cast<std::uint32_t>(cohort_)};
            }
            CHECK_FOR_INTERRUPTS();
            return n;
        });
        for (int i = 0; i < count; ++i)
            signups.add(chunk_of(batch_[i].user_no), position_of(batch_[i].user_no), batch_[i].cohort);
        return count == kBatch;
    }
    void close() {
        pg::guard([&] { walk_.close(); });
    }

  private:
    struct Signup {
        std::int64_t user_no;
        std::uint32_t cohort;
    };
    static constexpr int kBatch = 1024;
    const Periods& periods_;
    std::size_t cohort_ = 0;
    Signup batch_[kBatch];
    pg::EntryWalk walk_;
};

/// The number of users in each cohort, and of those active in each period.
struct Table {
    std::vector<std::int64_t> sizes, active;
};

/// Adds the cohorts of one chunk after the other, a few at once.
class Counting {
  public:
    Counting(const Config& config, const Question& question, const Periods& periods)
        : question_(question),
          periods_(periods.count()),
          chunks_(config, question, layout(periods)),
          cohorts_(scratch(kCohortsAtOnce + 1)),
          counts_(kCohortsAtOnce * periods_) {}

    void add(const Signups& signups, Table& table) {
        for (auto it = signups.users().begin(); it != signups.users().end();) {
            const std::int32_t chunk = it->first.first;
            chunks_.read(chunk);
            bitmap::Bits& wanted = cohorts_[kCohortsAtOnce];
            if (chunks_.asked_for())
                wanted = *chunks_.asked_for();
            else
                wanted.fill();
            keep_accounts_of_service(question_, chunk, wanted, scratch_);
            while (it != signups.users().end() && it->first.first == chunk) {
                std::size_t n = 0;
                std::uint32_t which[kCohortsAtOnce];
                for (; n < kCohortsAtOnce && it != signups.users().end() && it->first.first == chunk;
                     ++n, ++it) {
                    which[n] = it->first.second;
                    cohorts_[n].clear();
                    it->second.add_to(cohorts_[n]);
                    cohorts_[n] &= wanted;
                    table.sizes[which[n]] += cohorts_[n].count();
                }
                std::fill(counts_.begin(), counts_.end(), 0);
                bitmap::retention(bitmap::BitRows(&cohorts_[0], n), chunks_.days(), counts_.data());
                for (std::size_t c = 0; c < n; ++c)
                    for (std::size_t p = 0; p < periods_; ++p)
                        table.active[which[c] * periods_ + p] += counts_[c * periods_ + p];
                check_for_interrupts();
            }
        }
    }
    void close() {
        scratch_.close();
        chunks_.close();
    }

  private:
    /// All days of a period in one row.
    static Layout layout(const Periods& periods) {
        Layout layout{periods.days()};
        for (std::size_t p = 0; p < periods.count(); ++p)
            layout.row_of.insert(layout.row_of.end(), length(periods.of(p)), static_cast<std::uint32_t>(p));
        return layout;
    }

    const Question& question_;
    const std::size_t periods_;
    Chunks chunks_;
    pg::Scratch scratch_;
    bitmap::BitRows cohorts_;  // and the users that the question includes
    std::vector<std::int64_t> counts_;
};

Table retention_table(const Config& config, const Question& question, const Periods& periods, Day last) {
    Table table{std::vector<std::int64_t>(periods.count(), 0),
                std::vector<std::int64_t>(periods.count() * periods.count(), 0)};
    Counting counting(config, question, periods);
    Signups signups(kMostSignups);
    for (std::optional<std::int32_t> first = 0; first; first = signups.left_out()) {
        signups.begin(*first);
        SignupWalk accounts(config, periods, last);
        while (accounts.add_to(signups)) {
        }
        accounts.close();
        counting.add(signups, table);
    }
    counting.close();
    return table;
}

Datum retention(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Period unit = period_of(args, 0);
    const Day now = day_of(args.instant(6));
    const DayRange range = range_of(fcinfo, 1, now, unit, unit == Period::day ? 30 : 12);
    const Question question = question_of(args, 3, 4, 5);
    const Periods periods = periods_of(unit, range);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        const KeptDays kept;
        const Table table = retention_table(*config::config(), question, periods, now);
        const std::size_t count = periods.count();
        for (std::size_t c = 0; c < count; ++c) {
            check_for_interrupts();
            for (std::size_t p = c; p < count; ++p) {
                const bool known = periods.of(p).last < now && kept.reach(periods.of(p).first);
                const std::int64_t users = table.active[c * count + p];
                result.add({cell(periods.of(c).first), table.sizes[c], static_cast<int>(p - c),
                            cell(periods.of(p).first), known ? std::optional(users) : std::nullopt,
                            known ? ratio(users, table.sizes[c]) : std::nullopt});
            }
        }
    });
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_retention, retention);

}  // namespace mau
