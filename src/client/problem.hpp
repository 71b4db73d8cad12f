// A failure that ends a command: one line for stderr, a hint, and the exit status.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mau::client {

/// The exit statuses of every command but `status`, which has those of monitoring plugins.
enum Exit { kDone = 0, kFailed = 1, kBadInput = 2, kUnknown = 3 };

/// A failure that is reported to the user. `hint` is a sentence, or empty.
class Problem : public std::runtime_error {
  public:
    Problem(const std::string& message, std::string hint, Exit exit = kFailed)
        : std::runtime_error(message), hint_(std::move(hint)), exit_(exit) {}

    const std::string& hint() const { return hint_; }
    Exit exit() const { return exit_; }

  private:
    std::string hint_;
    Exit exit_;
};

}  // namespace mau::client
