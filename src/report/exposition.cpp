#define MAU_PURE_SOURCE
#include "report/exposition.hpp"

namespace mau::exposition {

namespace {

std::string escape(std::string_view text, bool quotes) {
    std::string escaped;
    escaped.reserve(text.size());
    for (const char c : text) {
        if (c == '\n') {
            escaped += "\\n";
            continue;
        }
        if (c == '\\' || (quotes && c == '"')) escaped += '\\';
        escaped += c;
    }
    return escaped;
}

}  // namespace

std::string escape_label(std::string_view value) {
    return escape(value, true);
}

std::string escape_help(std::string_view help) {
    return escape(help, false);
}

void Text::begin(std::string_view name, std::string_view type, std::string_view help) {
    family_ = name;
    text_ += "# HELP " + family_ + " " + escape_help(help) + "\n# TYPE " + family_ + " ";
    text_ += type;
    text_ += '\n';
}

void Text::add_label(const Label& label, bool first) {
    text_ += first ? '{' : ',';
    text_ += label.name;
    text_ += "=\"" + escape_label(label.value) + "\"";
}

void Text::sample(std::int64_t value, std::initializer_list<Label> labels) {
    text_ += family_;
    bool first = true;
    for (const Label& label : common_) {
        add_label(label, first);
        first = false;
    }
    for (const Label& label : labels) {
        add_label(label, first);
        first = false;
    }
    if (!first) text_ += '}';
    text_ += " " + std::to_string(value) + "\n";
}

}  // namespace mau::exposition
