#define MAU_PURE_SOURCE
#include "bitmap/algebra.hpp"

#include "bitmap/kernels.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace mau::bitmap {

namespace {

const Bits kNobody{};

// Row numbers may run over either end of the rows: those days are empty.
const Word* day_at(const BitRows& days, std::ptrdiff_t row) {
    return row < 0 || row >= static_cast<std::ptrdiff_t>(days.size())
               ? kNobody.word
               : days[static_cast<std::size_t>(row)].word;
}

void check_range(const BitRows& days, std::size_t from, std::size_t to) {
    if (from > to || to > days.size()) throw std::invalid_argument("range outside the decoded days");
}

void check_scratch(const BitRows& scratch, std::size_t needed) {
    if (scratch.size() < needed) throw std::invalid_argument("too little scratch");
}

void check_window(std::size_t window, std::size_t min_days) {
    if (window == 0 || min_days == 0) throw std::invalid_argument("a window has at least one day");
}

// The number of planes for counts up to `most`.
std::size_t planes_for(std::size_t most) {
    std::size_t n = 0;
    for (; most != 0; most >>= 1) ++n;
    return n;
}

// Bit-sliced counters: how many days each user was active.
class Counter {
  public:
    Counter(Bits* planes, std::size_t most) : planes_(planes), n_(planes_for(most)) {}

    std::size_t planes() const { return n_; }
    const Bits& plane(std::size_t p) const { return planes_[p]; }

    void clear() { std::memset(planes_, 0, n_ * sizeof(Bits)); }
    void add(const Word* day) { kernels().counter_add(planes_->word, n_, day); }
    void subtract(const Word* day) { kernels().counter_subtract(planes_->word, n_, day); }

    // Adds the rows [from, to), after which no count may be above the constructor's argument.
    void add(const BitRows& days, std::size_t from, std::size_t to) {
        for (; from + 8 <= to; from += 8) kernels().counter_add8(planes_->word, n_, days[from].word);
        for (; from < to; ++from) add(days[from].word);
    }

    std::int64_t at_least(std::size_t k, Bits* out) const {
        if (k >> n_ == 0)
            return kernels().counter_at_least(planes_->word, n_, k, out == nullptr ? nullptr : out->word);
        if (out != nullptr) out->clear();
        return 0;
    }

  private:
    Bits* planes_;
    std::size_t n_;
};

// Walks the windows of `length` days that end on row first, first + 1, ...
//
// With min_days = 1 by the two-stack trick: rows are cut into blocks of `length`; a window is the suffix of
// one block (ORed backwards when the walk enters the next) and a prefix of that next block (ORed during the
// walk), so a window costs three ORs however long it is. With min_days > 1, by counters to which each day is
// added and from which it is taken.
class Windows {
  public:
    static std::size_t scratch(std::size_t length, std::size_t min_days) {
        return min_days == 1 ? length : planes_for(length);
    }

    Windows(const BitRows& days, std::ptrdiff_t first, std::size_t length, std::size_t min_days,
            Bits* scratch)
        : days_(days),
          row_(first),
          length_(static_cast<std::ptrdiff_t>(length)),
          min_days_(min_days),
          prefix_(scratch[0]),
          suffix_(scratch + 1),
          counter_(scratch, length) {
        if (min_days_ == 1) return;
        counter_.clear();
        for (std::ptrdiff_t row = std::max<std::ptrdiff_t>(0, row_ - length_); row < row_; ++row)
            counter_.add(day_at(days_, row));
    }

    // Counts the next window's users and, if wanted, returns the set of them.
    std::int64_t next(Bits* active) {
        const std::ptrdiff_t row = row_++;
        if (min_days_ > 1) {
            counter_.subtract(day_at(days_, row - length_));
            counter_.add(day_at(days_, row));
            return counter_.at_least(min_days_, active);
        }
        if (position_ == 0) enter_block(row);
        const Word* rest = position_ + 1 < length_ ? suffix_[position_].word : kNobody.word;
        position_ = (position_ + 1) % length_;
        if (length_ == 1 && active == nullptr) return kernels().count(day_at(days_, row));
        return kernels().slide(prefix_.word, day_at(days_, row), rest,
                               active == nullptr ? nullptr : active->word);
    }

  private:
    void enter_block(std::ptrdiff_t begin) {
        prefix_.clear();
        const Word* later = kNobody.word;
        for (std::ptrdiff_t i = length_ - 2; i >= 0; --i) {
            kernels().unite_to(suffix_[i].word, later, day_at(days_, begin - length_ + 1 + i));
            later = suffix_[i].word;
        }
    }

    const BitRows& days_;
    std::ptrdiff_t row_;
    std::ptrdiff_t length_;
    std::size_t min_days_;
    std::ptrdiff_t position_ = 0;
    Bits& prefix_;
    Bits* suffix_;
    Counter counter_;
};

// Adds the users of `set`, separated by the planes below `plane`, to counts[k + ...]; `rooms` are two rows a
// plane.
void split_by_count(const Counter& counter, std::size_t plane, const Bits& set, std::size_t k, Bits* rooms,
                    std::int64_t* counts) {
    Bits& in = rooms[2 * plane];
    Bits& out = rooms[2 * plane + 1];
    std::int64_t found[2];
    kernels().split(set.word, counter.plane(plane).word, in.word, out.word, found);
    const std::size_t more = k + (std::size_t{1} << plane);
    if (plane == 0) {
        // No user of the set has a count of 0, and no count is above the number of days.
        if (found[0] != 0) counts[more] += found[0];
        if (found[1] != 0) counts[k] += found[1];
        return;
    }
    if (found[0] != 0) split_by_count(counter, plane - 1, in, more, rooms, counts);
    if (found[1] != 0) split_by_count(counter, plane - 1, out, k, rooms, counts);
}

// The words of a set from the first to the last user, widened to whole lanes.
void extent(const Bits& set, std::size_t& from, std::size_t& to) {
    constexpr std::size_t kLane = 4;
    const auto empty = [&](std::size_t w) {
        return (set.word[w] | set.word[w + 1] | set.word[w + 2] | set.word[w + 3]) == 0;
    };
    from = 0;
    to = kWords;
    while (from < to && empty(from)) from += kLane;
    while (from < to && empty(to - kLane)) to -= kLane;
}

}  // namespace

void BitRows::clear() const {
    for (std::size_t row = 0; row < size_; ++row) rows_[row].clear();
}

void unite(const BitRows& days, std::size_t from, std::size_t to, Bits& out) {
    check_range(days, from, to);
    out.clear();
    for (std::size_t row = from; row < to; ++row) out |= days[row];
}

std::size_t rolling_scratch(std::size_t window, std::size_t min_days) {
    return Windows::scratch(window, min_days);
}

void rolling(const BitRows& days, std::size_t from, std::size_t to, std::size_t window, std::size_t min_days,
             const BitRows& scratch, std::int64_t* counts) {
    check_range(days, from, to);
    check_window(window, min_days);
    check_scratch(scratch, rolling_scratch(window, min_days));
    Windows windows(days, static_cast<std::ptrdiff_t>(from), window, min_days, &scratch[0]);
    for (std::size_t row = from; row < to; ++row) counts[row - from] += windows.next(nullptr);
}

// Room for the windows of the last window + 1 days, and for the users who were ever active.
std::size_t grow_scratch(std::size_t window, std::size_t min_days) {
    return Windows::scratch(window, min_days) + window + 2;
}

void grow(const BitRows& days, std::size_t from, std::size_t to, std::size_t window, std::size_t min_days,
          const Bits* ever, const BitRows& scratch, Growth* growth) {
    check_range(days, from, to);
    check_window(window, min_days);
    check_scratch(scratch, grow_scratch(window, min_days));
    Bits& before_window = scratch[0];
    Bits* const ring = &scratch[1];
    const std::size_t slots = window + 1;
    const auto length = static_cast<std::ptrdiff_t>(window);
    const auto first = static_cast<std::ptrdiff_t>(from) - length;

    before_window = ever == nullptr ? kNobody : *ever;
    for (std::ptrdiff_t row = 0; row < first; ++row) kernels().unite(before_window.word, day_at(days, row));

    Windows windows(days, first, window, min_days, ring + slots);
    std::size_t slot = 0;
    for (std::size_t i = 0; i < window; ++i) windows.next(&ring[slot++]);
    for (std::size_t row = from; row < to; ++row) {
        const Bits& active = ring[slot];
        const std::int64_t now = windows.next(&ring[slot]);
        slot = (slot + 1) % slots;
        const Bits& previous = ring[slot];
        kernels().unite(before_window.word, day_at(days, static_cast<std::ptrdiff_t>(row) - length));

        std::int64_t known[2];
        kernels().count_two(active.word, previous.word, before_window.word, known);
        Growth& g = growth[row - from];
        g.arrived += now - known[1];
        g.retained += known[0];
        g.resurrected += known[1] - known[0];
        g.churned += previous.count() - known[0];
    }
}

void first_seen(const BitRows& days, std::size_t from, std::size_t to, Bits& ever, std::int64_t* counts) {
    check_range(days, from, to);
    std::int64_t known = ever.count();
    for (std::size_t row = from; row < to; ++row) {
        const std::int64_t now = kernels().slide(ever.word, days[row].word, kNobody.word, nullptr);
        counts[row - from] += now - known;
        known = now;
    }
}

// Users with two active days a <= b - apart in [t - back, t + ahead].
//
// b runs over the last `pairs` days of the span, a over the first `pairs`, and (a, b) counts if a is not
// later than b - apart. So walk e = t + ahead with a window of `pairs` elements (day[e - apart], day[e]) and
// keep of each stretch of elements: its early days ORed (earlies), its late days ORed (lates), and the users
// with an early day in it that is not after a late day (pairs). Two neighbouring stretches x, y make pairs =
// x.pairs | y.pairs | (x.earlies & y.lates), which is associative: the two-stack trick of Windows works on
// these triples.
std::size_t returning_scratch(const Span& span) {
    const std::size_t reach = span.back + span.ahead + 1;
    return reach > span.apart ? 2 * (reach - span.apart) + 4 : 0;
}

void returning(const BitRows& days, std::size_t from, std::size_t to, const Span& span,
               const BitRows& scratch, std::int64_t* counts) {
    check_range(days, from, to);
    check_window(span.apart, 1);
    const std::size_t reach = span.back + span.ahead + 1;
    if (reach <= span.apart) return;
    check_scratch(scratch, returning_scratch(span));

    const auto length = static_cast<std::ptrdiff_t>(reach - span.apart);
    const auto apart = static_cast<std::ptrdiff_t>(span.apart);
    Bits& earlies = scratch[0];
    Bits& lates = scratch[1];
    Bits& pairs = scratch[2];
    Bits& suffix_lates = scratch[3];
    Bits* const suffix_earlies = &scratch[4];
    Bits* const suffix_pairs = suffix_earlies + length;

    std::ptrdiff_t position = 0;
    for (std::size_t row = from; row < to; ++row) {
        const auto end = static_cast<std::ptrdiff_t>(row + span.ahead);
        if (position == 0) {
            earlies.clear();
            lates.clear();
            pairs.clear();
            suffix_lates.clear();
            suffix_earlies[length - 1].clear();
            suffix_pairs[length - 1].clear();
            for (std::ptrdiff_t i = length - 2; i >= 0; --i) {
                const std::ptrdiff_t late = end - length + 1 + i;
                kernels().span_suffix(day_at(days, late - apart), day_at(days, late), suffix_lates.word,
                                      suffix_earlies[i + 1].word, suffix_pairs[i + 1].word,
                                      suffix_earlies[i].word, suffix_pairs[i].word);
            }
        }
        counts[row - from] +=
            kernels().span_step(day_at(days, end - apart), day_at(days, end), earlies.word, lates.word,
                                pairs.word, suffix_earlies[position].word, suffix_pairs[position].word);
        position = (position + 1) % length;
    }
}

// Room for the counter's planes, two rows a plane to split into, and the set of all users.
std::size_t days_active_scratch(std::size_t rows) {
    return 3 * planes_for(rows) + 1;
}

DayCounts::DayCounts(const BitRows& scratch, std::size_t most) : scratch_(scratch), most_(most) {
    check_scratch(scratch, days_active_scratch(most));
}

void DayCounts::clear() const {
    Counter(&scratch_[1], most_).clear();
}

void DayCounts::add(const BitRows& days, std::size_t from, std::size_t to) const {
    check_range(days, from, to);
    Counter(&scratch_[1], most_).add(days, from, to);
}

void DayCounts::histogram(std::int64_t* counts) const {
    if (most_ == 0) return;
    const Counter counter(&scratch_[1], most_);
    Bits& everybody = scratch_[0];
    counter.at_least(1, &everybody);
    split_by_count(counter, counter.planes() - 1, everybody, 0, &scratch_[1 + counter.planes()], counts);
}

std::uint32_t DayCounts::at_least(std::size_t min_days, Bits& out) const {
    check_window(1, min_days);
    return static_cast<std::uint32_t>(Counter(&scratch_[1], most_).at_least(min_days, &out));
}

std::uint32_t active_at_least(const BitRows& days, std::size_t from, std::size_t to, std::size_t min_days,
                              const BitRows& scratch, Bits& out) {
    check_range(days, from, to);
    const DayCounts active(scratch, to - from);
    active.clear();
    active.add(days, from, to);
    return active.at_least(min_days, out);
}

void retention(const BitRows& cohorts, const BitRows& periods, std::int64_t* counts) {
    for (std::size_t c = 0; c < cohorts.size(); ++c) {
        std::size_t from, to;
        extent(cohorts[c], from, to);
        if (from == to) continue;
        for (std::size_t p = 0; p < periods.size(); ++p)
            counts[c * periods.size() + p] +=
                kernels().count_both(cohorts[c].word, periods[p].word, from, to);
    }
}

}  // namespace mau::bitmap
