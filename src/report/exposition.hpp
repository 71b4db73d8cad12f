// The Prometheus text exposition format, version 0.0.4, which mau.metrics() returns.
#pragma once

#include "base/pure.hpp"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mau::exposition {

struct Label {
    std::string_view name;
    std::string_view value;
};

/// One line of an exposition.
struct Sample {
    std::string name;
    std::string labels;  // a JSON object: common labels first, then the sample's own
    std::int64_t value;
};

/// Builds an exposition: families in order, the samples of each right behind it, as the format requires.
class Text {
  public:
    /// `common` labels are put on every sample, before its own; their values must
    /// outlive the last call of `sample`.
    explicit Text(std::vector<Label> common = {}) : common_(std::move(common)) {}

    /// Begins a family of gauges, or of counters. The name is valid: [a-zA-Z_:][a-zA-Z0-9_:]*.
    void gauge(std::string_view name, std::string_view help) { begin(name, "gauge", help); }
    void counter(std::string_view name, std::string_view help) { begin(name, "counter", help); }
    /// Adds a sample to the family that was begun last.
    void sample(std::int64_t value, std::initializer_list<Label> labels = {});

    const std::string& str() const { return text_; }
    const std::vector<Sample>& samples() const { return samples_; }

  private:
    void begin(std::string_view name, std::string_view type, std::string_view help);

    std::vector<Label> common_;
    std::string family_;
    std::string text_;
    std::vector<Sample> samples_;
};

/// A label's value as it stands between the quotes: backslash, quote and line feed escaped.
std::string escape_label(std::string_view value);
/// Labels as a JSON object of texts. The values are in the database's encoding.
std::string json_object(const std::vector<Label>& labels);
/// A help text as it stands at the end of its line: backslash and line feed escaped, quotes left alone.
std::string escape_help(std::string_view help);

}  // namespace mau::exposition
