#define MAU_PURE_SOURCE
#include "client/exposition_merge.hpp"

#include <map>

#include "report/exposition.hpp"

namespace mau::client {
namespace {

/// The first word after `start`, such as the name in `# TYPE name gauge`.
std::string_view word_at(std::string_view line, std::size_t start) {
    return line.substr(start, line.find(' ', start) - start);
}

bool begins_with(std::string_view text, std::string_view with) {
    return text.substr(0, with.size()) == with;
}

/// Removes the label `database`, which mau.metrics adds with metrics_database_label. `labels` begins behind
/// the opening brace of a sample: `x="1",y="2"} 3`.
std::string without_database(std::string_view labels) {
    constexpr std::string_view kName = "database=\"";
    std::string rest;
    while (!labels.empty() && labels[0] != '}') {
        std::size_t end = labels.find('"');  // of the label
        if (end == std::string_view::npos) break;
        for (++end; end < labels.size() && labels[end] != '"'; ++end)
            if (labels[end] == '\\') ++end;
        if (end >= labels.size()) break;
        const std::string_view label = labels.substr(0, end + 1);
        if (!begins_with(label, kName)) rest += (rest.empty() ? "" : ",") + std::string(label);
        labels.remove_prefix(label.size());
        if (begins_with(labels, ",")) labels.remove_prefix(1);
    }
    return rest + std::string(labels);
}

void add_sample(std::string& samples, std::string_view line, const std::string& label) {
    const std::size_t name_end = line.find_first_of("{ ");
    samples += line.substr(0, name_end);
    if (line[name_end] == '{') {
        const std::string_view own = line.substr(name_end + 1);
        const std::string labels = label.empty() ? std::string(own) : without_database(own);
        samples += '{' + label + (label.empty() || labels[0] == '}' ? "" : ",") + labels;
    } else {
        if (!label.empty()) samples += '{' + label + '}';
        samples += line.substr(name_end);
    }
    samples += '\n';
}

}  // namespace

Families parse_exposition(std::string_view text, std::string_view database) {
    const std::string label =
        database.empty() ? "" : "database=\"" + exposition::escape_label(database) + '"';
    Families result;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.empty()) continue;
        if (begins_with(line, "# HELP ") || begins_with(line, "# TYPE ")) {
            const std::string_view name = word_at(line, 7);
            if (result.families.empty() || result.families.back().name != name) {
                result.families.push_back({std::string(name), "", ""});
            }
            result.families.back().head += std::string(line) + '\n';
            continue;
        }
        const std::size_t name_end = line.find_first_of("{ ");
        if (line[0] == '#' || name_end == std::string_view::npos || result.families.empty()) continue;
        if (line.substr(0, name_end) != result.families.back().name) continue;
        add_sample(result.families.back().samples, line, label);
    }
    return result;
}

std::string merge_expositions(const std::vector<std::shared_ptr<const Families>>& expositions) {
    std::vector<std::string_view> order;
    std::map<std::string_view, std::vector<const Families::Family*>> by_name;
    std::size_t size = 0;
    for (const auto& exposition : expositions) {
        for (const Families::Family& family : exposition->families) {
            auto& same = by_name[family.name];
            if (same.empty()) order.push_back(family.name);
            same.push_back(&family);
            size += family.head.size() + family.samples.size();
        }
    }
    std::string text;
    text.reserve(size);
    for (const std::string_view name : order) {
        const auto& same = by_name[name];
        text += same.front()->head;
        for (const Families::Family* family : same) text += family->samples;
    }
    return text;
}

}  // namespace mau::client
