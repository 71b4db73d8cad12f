// Feeds the reader of Prosody's values bytes of any kind: it returns the time that the library's document
// has, and nothing where the library refuses the bytes.

#include "source/prosody_json.hpp"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of its own, so that the sanitizer sees the very first byte read past the end.
    const std::vector<char> bytes(data, data + size);
    const auto time = mau::source::prosody_time({bytes.data(), bytes.size()});
    if (size > mau::source::kLongestProsodyValue) {
        if (time) std::abort();
        return 0;
    }
    const auto document = nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
    double seconds = -1;
    if (document.is_object() && document.contains("timestamp") && document["timestamp"].is_number())
        seconds = document["timestamp"].get<double>();
    if (time.has_value() != (seconds >= 0 && seconds < 32503680000)) std::abort();
    if (time && std::abs(static_cast<double>(*time) - std::floor(seconds * 1000)) > 1) std::abort();
    return 0;
}
