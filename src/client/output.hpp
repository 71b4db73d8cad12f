// The output of commands: problems, progress, and text that must arrive in full.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "client/problem.hpp"
#include "client/table.hpp"

namespace mau::client {

/// The names that --format takes.
const std::map<std::string, Format>& format_names();

/// Prints `mau: MESSAGE` and `HINT: …` to stderr, where a message begins with `name` if that is not empty.
void report(const Problem& problem, const std::string& name = "");

/// The present time in UTC, as `2026-11-30 12:00:00+00`.
std::string utc_now();

/// Writes a text to stdout. Raises Problem where it does not arrive in full, as on a full disk.
void print(std::string_view text);

/// Replaces a file by a text, or leaves it as it was and raises Problem. `-` is stdout.
void write_file(const std::string& path, std::string_view text);

/// A line on the terminal that says what takes long; it appears after a second, and vanishes.
class Progress {
  public:
    explicit Progress(std::string what);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Says how far it is.
    void update(std::size_t done, std::size_t of);

  private:
    struct Line;
    std::unique_ptr<Line> line_;
};

}  // namespace mau::client
