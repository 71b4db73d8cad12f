#include "source/contract.hpp"

namespace mau::source {

std::string substitute(std::string text, std::string_view name, std::string_view value) {
    const std::string place = "{" + std::string(name) + "}";
    for (std::size_t at = text.find(place); at != std::string::npos; at = text.find(place, at + value.size()))
        text.replace(at, place.size(), value);
    return text;
}

void complete(Contract& contract) {
    const std::string all =
        "(" + substitute(contract.activity, "where", "true") + ") a(user_id, last_seen, user_agent)";
    contract.newest = "SELECT max(a.last_seen) FROM " + all + " WHERE a.last_seen <= $1";
    contract.last_seen = "SELECT a.user_id, max(a.last_seen) FROM " + all +
                         " WHERE a.last_seen BETWEEN 0 AND $1 GROUP BY a.user_id";
}

}  // namespace mau::source
