// The page of the figures: one HTML file with its style, its script and Chart.js in it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace mau::client {

/// A page, and the Content-Security-Policy under which only its own scripts run.
struct Page {
    std::string html;
    std::string policy;
};

/// The page of the figures of a database, or of several (`targets`). With `is_live` it asks its own address
/// for newer figures every minute; otherwise it never uses the network.
Page make_page(const nlohmann::ordered_json& figures, bool is_live);

/// The figures as text; invalid UTF-8 is replaced.
std::string json_text(const nlohmann::ordered_json& figures);

}  // namespace mau::client
