#include "client/output.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <mutex>
#include <thread>

#include <fmt/format.h>

namespace mau::client {

const std::map<std::string, Format>& format_names() {
    static const std::map<std::string, Format> names = {
        {"table", Format::kTable}, {"csv", Format::kCsv}, {"json", Format::kJson}};
    return names;
}

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    char text[32];
    std::tm parts{};
    gmtime_r(&now, &parts);
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S+00", &parts);
    return text;
}

void report(const Problem& problem, const std::string& name) {
    fmt::print(stderr, "mau: {}{}{}\n", shortened(name), name.empty() ? "" : ": ", problem.what());
    if (!problem.hint().empty()) fmt::print(stderr, "HINT: {}\n", problem.hint());
}

void print(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
        throw Problem(fmt::format("cannot write to standard output: {}", std::strerror(errno)), "");
    }
}

namespace {

class File {
  public:
    explicit File(const std::string& path) : path_(path) {
        descriptor_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (descriptor_ < 0) fail();
    }
    ~File() {
        if (descriptor_ < 0) return;
        close(descriptor_);
        unlink(path_.c_str());
    }
    void write_all(std::string_view text) {
        while (!text.empty()) {
            const ssize_t written = ::write(descriptor_, text.data(), text.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) fail();
            text.remove_prefix(static_cast<std::size_t>(written));
        }
    }
    void rename_to(const std::string& path) {
        const int descriptor = descriptor_;
        if (fsync(descriptor) != 0 && errno != EINVAL) fail();
        descriptor_ = -1;
        if (close(descriptor) != 0 || std::rename(path_.c_str(), path.c_str()) != 0) {
            const int error = errno;
            unlink(path_.c_str());
            errno = error;
            fail();
        }
    }

  private:
    [[noreturn]] void fail() {
        throw Problem(fmt::format("cannot write {}: {}", path_, std::strerror(errno)),
                      "choose another place with --output, or make room");
    }

    std::string path_;
    int descriptor_ = -1;
};

}  // namespace

void write_file(const std::string& path, std::string_view text) {
    if (path == "-") {
        print(text);
        return;
    }
    File file(path + ".new");
    file.write_all(text);
    file.rename_to(path);
}

struct Progress::Line {
    std::string what;
    std::size_t done = 0, of = 0;
    bool ended = false, shown = false;
    std::mutex mutex;
    std::condition_variable changed;
    std::thread thread;

    void run() {
        std::unique_lock lock(mutex);
        auto pause = std::chrono::milliseconds(1000);
        while (!changed.wait_for(lock, pause, [this] { return ended; })) {
            fmt::print(stderr, "\r{} ...{}\033[K", what, of ? fmt::format(" {} of {}", done, of) : "");
            std::fflush(stderr);
            shown = true;
            pause = std::chrono::milliseconds(200);
        }
        if (shown) {
            fmt::print(stderr, "\r\033[K");
            std::fflush(stderr);
        }
    }
};

Progress::Progress(std::string what) {
    if (!isatty(STDERR_FILENO)) return;
    line_ = std::make_unique<Line>();
    line_->what = std::move(what);
    line_->thread = std::thread([this] { line_->run(); });
}

void Progress::update(std::size_t done, std::size_t of) {
    if (!line_) return;
    const std::lock_guard lock(line_->mutex);
    line_->done = done;
    line_->of = of;
}

Progress::~Progress() {
    if (!line_) return;
    {
        const std::lock_guard lock(line_->mutex);
        line_->ended = true;
    }
    line_->changed.notify_one();
    line_->thread.join();
}

}  // namespace mau::client
