#include "client/page.hpp"

#include <map>
#include <random>
#include <string_view>

#include <fmt/format.h>

namespace mau::client {

// From the files of that name and Chart.js; the Makefile makes build/client/embedded.cpp of them.
extern const char* const kPageHtml;
extern const char* const kPageCss;
extern const char* const kPageDatabaseJs;
extern const char* const kPageFleetJs;
extern const char* const kPageJs;
extern const char* const kChartJs;

namespace {

std::string random_word() {
    std::random_device random;
    return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

/// Replaces each {{name}} of a template by its value. A {{name}} inside a value stays as it is.
std::string fill(std::string_view text, const std::map<std::string_view, std::string_view>& values) {
    std::string result;
    for (;;) {
        const std::size_t begin = text.find("{{");
        result += text.substr(0, begin);
        if (begin == std::string_view::npos) return result;
        const std::size_t end = text.find("}}", begin);
        result += values.at(text.substr(begin + 2, end - begin - 2));
        text.remove_prefix(end + 2);
    }
}

/// JSON in which no `<` can end the script element that it is in.
std::string for_script(std::string json) {
    for (std::size_t at = 0; (at = json.find('<', at)) != std::string::npos;) json.replace(at, 1, "\\u003c");
    return json;
}

}  // namespace

Page make_page(const nlohmann::ordered_json& figures, bool is_live) {
    const std::string nonce = random_word();
    std::string policy = fmt::format(
        "default-src 'none'; script-src 'nonce-{}'; style-src 'unsafe-inline'; img-src data:; connect-src {};"
        " base-uri 'none'; form-action 'none'",
        nonce, is_live ? "'self'" : "'none'");
    const std::string data = for_script(json_text(figures));
    std::string html = fill(kPageHtml, {{"policy", policy},
                                        {"style", kPageCss},
                                        {"live", is_live ? "?format=json" : ""},
                                        {"figures", data},
                                        {"nonce", nonce},
                                        {"chart", kChartJs},
                                        {"database_script", kPageDatabaseJs},
                                        {"fleet_script", kPageFleetJs},
                                        {"script", kPageJs}});
    return {std::move(html), std::move(policy)};
}

std::string json_text(const nlohmann::ordered_json& figures) {
    return figures.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace mau::client
