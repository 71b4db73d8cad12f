// The figures of a bench: shown as a table while they come, and written to bench.json.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace figures {

struct Figure {
    std::string part, what, unit, against, wanted;
    double value, ratio;  // ratio: NAN where there is nothing to compare with
    int good;             // 1 yes, 0 no, -1 nothing is wanted
};

inline std::string digits(double value) {
    char text[32];
    if (std::isnan(value)) return "";
    std::snprintf(text, sizeof text,
                  value >= 1000  ? "%.0f"
                  : value >= 100 ? "%.1f"
                  : value >= 10  ? "%.2f"
                                 : "%.3f",
                  value);
    return text;
}

class Table {
  public:
    static void heading() {
        std::printf("%-3s %-58s %12s %-11s %8s  %-32s %s\n", "", "what", "measured", "unit", "ratio", "to",
                    "wanted");
    }
    /// Shows a figure. `good` says whether it is as wanted.
    void add(Figure figure) {
        std::printf("%-3s %-58s %12s %-11s %8s  %-32s %s%s\n", figure.part.c_str(), figure.what.c_str(),
                    digits(figure.value).c_str(), figure.unit.c_str(), digits(figure.ratio).c_str(),
                    figure.against.c_str(), figure.wanted.c_str(),
                    figure.good == 0   ? "  MISSED"
                    : figure.good == 1 ? "  ok"
                                       : "");
        std::fflush(stdout);
        figures_.push_back(std::move(figure));
    }
    /// Writes the figures to a file, after those that another bench of this run has left in it.
    void write_json(const char* path, bool full) const {
        std::string text;
        if (FILE* in = std::fopen(path, "r")) {
            char buffer[65536];
            for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, in)) > 0;) text.append(buffer, n);
            std::fclose(in);
        }
        const std::size_t end = text.rfind("\n]}");
        if (end == std::string::npos) {
            const char* machine = std::getenv("BENCH_MACHINE");
            text = "{\"machine\": " + quoted(machine ? machine : "") + ", \"scale\": \"" +
                   (full ? "full" : "small") + "\", \"lines\": [";
        } else {
            text.resize(end);
        }
        FILE* out = std::fopen(path, "w");
        if (!out) return;
        auto number = [](double value) {
            return std::isnan(value) ? std::string("null") : std::to_string(value);
        };
        for (const Figure& f : figures_)
            text += std::string(text.back() == '[' ? "" : ",") + "\n  {\"part\": " + quoted(f.part) +
                    ", \"what\": " + quoted(f.what) + ", \"value\": " + number(f.value) +
                    ", \"unit\": " + quoted(f.unit) + ", \"ratio\": " + number(f.ratio) +
                    ", \"to\": " + quoted(f.against) +
                    ", \"wanted\": " + (f.wanted.empty() ? "null" : quoted(f.wanted)) + ", \"good\": " +
                    (f.good < 0 ? "null"
                     : f.good   ? "true"
                                : "false") +
                    "}";
        std::fprintf(out, "%s\n]}\n", text.c_str());
        std::fclose(out);
    }

  private:
    static std::string quoted(const std::string& text) {
        std::string out = "\"";
        for (const char c : text) {
            if (c == '"' || c == '\\') out += '\\';
            out += c;
        }
        return out + "\"";
    }

    std::vector<Figure> figures_;
};

/// Whether a figure is as wanted: `wanted` is such as ">= 0.95" or "<= 20".
inline int as_wanted(const std::string& wanted, double got) {
    if (wanted.empty()) return -1;
    const double limit = std::atof(wanted.c_str() + 3);
    return wanted[0] == '>' ? got >= limit : got <= limit;
}

}  // namespace figures
