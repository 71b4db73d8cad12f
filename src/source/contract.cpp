#include "source/contract.hpp"

namespace mau::source {

std::string substitute(std::string text, std::string_view name, std::string_view value) {
    const std::string placeholder = "{" + std::string(name) + "}";
    for (std::size_t at = text.find(placeholder); at != std::string::npos;
         at = text.find(placeholder, at + value.size()))
        text.replace(at, placeholder.size(), value);
    return text;
}

void complete(Contract& contract) {
    const std::string all =
        "(" + substitute(contract.activity, "where", "true") + ") a(user_id, last_seen, user_agent)";
    contract.newest = "SELECT max(a.last_seen) FROM " + all + " WHERE a.last_seen <= $1";
    contract.last_seen = "SELECT a.user_id, max(a.last_seen) FROM " + all +
                         " WHERE a.last_seen BETWEEN 0 AND $1 GROUP BY a.user_id";
}

std::string malformed(const std::string& relation, const std::string& column, const std::string& table) {
    constexpr const char* kReasons[][2] = {
        {"missing", "IS NULL"}, {"negative", "< 0"}, {"in the future", "> $1 + 86400000"}};
    std::string query;
    for (const auto& [reason, condition] : kReasons)
        query += (query.empty() ? "" : " UNION ALL ") + ("(SELECT '" + relation) + "', '" + column + " is " +
                 reason + "', t.user_id::text FROM " + table + " t WHERE t.\"" + column + "\" " + condition +
                 " LIMIT 1000)";
    return query;
}

std::vector<ContractQuery> queries_of(const Contract& contract) {
    const std::string whole = "true";
    std::vector<ContractQuery> queries;
    auto add = [&](const std::string& text, bool required, bool takes_texts = false) {
        if (!text.empty()) queries.push_back({substitute(text, "where", whole), required, takes_texts});
    };
    add(contract.users, true);
    add(contract.bans, true);
    add(contract.accounts, true, true);
    add(contract.threepids, true);
    add(contract.holders, true, true);
    add(contract.unparsed, true);
    if (contract.parse) return queries;  // the others read its rows, and the same tables
    add(contract.activity, true);
    add(contract.newest, true);
    add(contract.last_seen, true);
    add(contract.malformed, true);
    add(contract.cohort, false);
    add(contract.counted, false);
    add(contract.answers, false, true);
    add(contract.visits, false);
    add(contract.malformed_visits, false);
    add(contract.usage, false);
    add(contract.usage_with_visits, false);
    return queries;
}

}  // namespace mau::source
