#define MAU_PURE_SOURCE
#include "report/exposition.hpp"

#include <cstddef>

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

std::string json_object(const std::vector<Label>& labels) {
    constexpr const char* kDigits = "0123456789abcdef";
    std::string json = "{";
    const auto add_text = [&](std::string_view text) {
        json += '"';
        for (const char c : text) {
            const auto byte = static_cast<unsigned char>(c);
            if (byte < 0x20) {
                json += "\\u00";
                json += kDigits[byte >> 4];
                json += kDigits[byte & 15];
                continue;
            }
            if (c == '\\' || c == '"') json += '\\';
            json += c;
        }
        json += '"';
    };
    for (const Label& label : labels) {
        if (json.size() > 1) json += ", ";
        add_text(label.name);
        json += ": ";
        add_text(label.value);
    }
    return json + "}";
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

void Text::sample(std::int64_t value, std::initializer_list<Label> labels) {
    std::vector<Label> all = common_;
    all.insert(all.end(), labels);
    text_ += family_;
    for (std::size_t i = 0; i < all.size(); ++i) {
        text_ += i == 0 ? '{' : ',';
        text_ += all[i].name;
        text_ += "=\"" + escape_label(all[i].value) + "\"";
    }
    if (!all.empty()) text_ += '}';
    text_ += " " + std::to_string(value) + "\n";
    samples_.push_back({family_, json_object(all), value});
}

}  // namespace mau::exposition
