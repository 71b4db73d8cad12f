// A failure that ends a command: one line for stderr, a hint, and the exit status.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mau::client {

/// The exit statuses of every command but `status`, which has those of monitoring plugins.
enum Exit { kDone = 0, kFailed = 1, kBadInput = 2, kUnknown = 3 };

/// A text for a line of a terminal: a longer one keeps its beginning and its end, which has the cause. UTF-8
/// characters stay whole.
inline std::string shortened(std::string text) {
    constexpr std::size_t kFirst = 600, kLast = 300;
    if (text.size() <= 2 * (kFirst + kLast)) return text;
    const auto is_inside_character = [&](std::size_t at) { return (text[at] & 0xC0) == 0x80; };
    std::size_t end = kFirst, begin = text.size() - kLast;
    while (is_inside_character(end)) --end;
    while (begin < text.size() && is_inside_character(begin)) ++begin;
    return text.substr(0, end) + " ... " + text.substr(begin);
}

/// A failure that is reported to the user. `hint` is a sentence, or empty.
class Problem : public std::runtime_error {
  public:
    Problem(const std::string& message, std::string hint, Exit exit = kFailed)
        : std::runtime_error(shortened(message)), hint_(shortened(std::move(hint))), exit_(exit) {}

    const std::string& hint() const { return hint_; }
    Exit exit() const { return exit_; }

  private:
    std::string hint_;
    Exit exit_;
};

}  // namespace mau::client
