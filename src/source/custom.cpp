#include "source/custom.hpp"

#include <algorithm>

#include "source/reader.hpp"

namespace mau::source {

namespace {

enum class Type { text, bigint, boolean, jsonb };

struct Column {
    const char* name;
    Type type;
    bool required;
};
struct Part {
    const char* name;
    std::vector<Column> columns;
};

/// The columns of each part of mau.custom_source.
const std::vector<Part>& parts() {
    static const std::vector<Part> kParts = {
        {"users",
         {{"user_id", Type::text, true},
          {"registered_at", Type::bigint, false},
          {"user_type", Type::text, false},
          {"appservice_id", Type::text, false},
          {"is_guest", Type::boolean, false},
          {"is_deactivated", Type::boolean, false},
          {"is_locked", Type::boolean, false}}},
        {"threepids",
         {{"user_id", Type::text, true}, {"medium", Type::text, true}, {"address", Type::text, true}}},
        {"activity",
         {{"user_id", Type::text, true},
          {"last_seen", Type::bigint, true},
          {"user_agent", Type::text, false}}},
        {"visits",
         {{"user_id", Type::text, true}, {"day", Type::bigint, true}, {"user_agent", Type::text, false}}},
        {"usage", {{"usage", Type::jsonb, true}}},
    };
    return kParts;
}

const char* name(Type type) {
    static constexpr const char* kNames[] = {"text", "bigint", "boolean", "jsonb"};
    return kNames[static_cast<int>(type)];
}

bool accepts(Type type, Oid oid) {
    switch (type) {
        case Type::text:
            return oid == TEXTOID || oid == VARCHAROID || oid == BPCHAROID || oid == NAMEOID;
        case Type::bigint:
            return oid == INT8OID || oid == INT4OID || oid == INT2OID;
        case Type::boolean:
            return oid == BOOLOID;
        case Type::jsonb:
            return oid == JSONBOID;
    }
    return false;
}

/// The query of a part as it is run: without a semicolon at its end, its placeholders replaced. Empty where
/// not given.
std::string query_of(const Homeserver& homeserver, const char* part) {
    const auto found = homeserver.queries.find(part);
    if (found == homeserver.queries.end()) return {};
    std::string query = found->second;
    query.erase(query.find_last_not_of("; \t\r\n") + 1);
    query = substitute(query, "schema", homeserver.schema);
    return substitute(query, "since", std::to_string(homeserver.since));
}

/// The result of parsing a query.
struct ParsedQuery {
    int columns;
    const char** names;
    Oid* types;
};

/// Parses a query without running anything of it.
ParsedQuery parse(const std::string& sql) {
    const BriefWaiting waiting;
    return pg::guard([text = sql.c_str()]() -> ParsedQuery {
        List* const statements = raw_parser(text, RAW_PARSE_DEFAULT);
        if (list_length(statements) != 1)
            ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("it must be one SELECT")));
        Oid const types[] = {INT8OID};
        Query* const query =
            parse_analyze_fixedparams(static_cast<RawStmt*>(linitial(statements)), text, types, 1, nullptr);
        if (query->commandType != CMD_SELECT || query->utilityStmt != nullptr || query->hasModifyingCTE)
            ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("it must be one SELECT")));
        ParsedQuery found{};
        found.names = static_cast<const char**>(palloc(sizeof(char*) * (list_length(query->targetList) + 1)));
        found.types = static_cast<Oid*>(palloc(sizeof(Oid) * (list_length(query->targetList) + 1)));
        ListCell* cell;
        foreach (cell, query->targetList) {
            auto const entry = static_cast<TargetEntry*>(lfirst(cell));
            if (entry->resjunk) continue;
            found.names[found.columns] = entry->resname ? entry->resname : "?";
            found.types[found.columns++] = exprType(reinterpret_cast<Node*>(entry->expr));
        }
        return found;
    });
}

std::string type_name(Oid type) {
    const char* name = pg::guard([&] { return format_type_be(type); });
    return name;
}

/// The fault of a column; empty if it has none.
std::string complaint(const Column& column, const ParsedQuery& found) {
    for (int i = 0; i < found.columns; ++i) {
        if (found.names[i] != std::string_view(column.name)) continue;
        if (accepts(column.type, found.types[i])) return {};
        return std::string(column.name) + " is " + type_name(found.types[i]) + ", not " + name(column.type);
    }
    return column.required ? std::string(column.name) + " is missing" : std::string();
}

/// The beginning of a SELECT of all of the contract's columns from a query that may lack optional ones.
std::string projection(const Part& part, const ParsedQuery& found) {
    std::string list;
    for (const Column& column : part.columns) {
        const bool there = std::any_of(found.names, found.names + found.columns, [&](const char* name) {
            return name == std::string_view(column.name);
        });
        std::string value = there ? std::string("q.") + column.name : "NULL";
        value += std::string("::") + name(column.type);
        if (column.type == Type::boolean) value = "coalesce(" + value + ", false)";
        list += (list.empty() ? "" : ", ") + value + " AS " + column.name;
    }
    return "(SELECT " + list + " FROM (";
}

/// The part of a homeserver as a table expression with all of the contract's columns; empty where it is not
/// given.
std::string table_of(const Homeserver& homeserver, const char* name) {
    const std::string query = query_of(homeserver, name);
    if (query.empty()) return {};
    for (const Part& part : parts())
        if (part.name == std::string_view(name)) return projection(part, parse(query)) + query + "\n) q)";
    return {};
}

}  // namespace

void check_queries(const Homeserver& homeserver) {
    if (query_of(homeserver, "activity").empty())
        throw Error(sqlstate::object_not_in_prerequisite_state, "mau.custom_source has no query for activity",
                    {},
                    "INSERT INTO mau.custom_source VALUES ('activity', 'SELECT user_id, last_seen FROM …'); "
                    "last_seen "
                    "is bigint, epoch milliseconds.");
    std::string complaints;
    bool mismatch = false;
    auto complain = [&](const char* part, const std::string& what) {
        complaints += (complaints.empty() ? "" : "; ") + std::string(part) + ": " + what;
    };
    for (const Part& part : parts()) {
        const std::string query = query_of(homeserver, part.name);
        if (query.empty()) continue;
        std::optional<ParsedQuery> found;
        const std::string sql =
            part.name == std::string_view("usage") ? substitute(query, "at", "$1") : query;
        const auto trouble = pg::attempt([&] { found = parse(sql); }, is_lasting);
        if (trouble)
            throw Error(sqlstate::invalid_parameter,
                        "the query for " + std::string(part.name) + " in mau.custom_source cannot be used",
                        trouble->message + ".",
                        "Give one SELECT, with all names qualified: the search_path is pg_catalog, pg_temp. "
                        "{schema} stands for the schema that is given to mau.attach().");
        for (const Column& column : part.columns) {
            const std::string what = complaint(column, *found);
            if (what.empty()) continue;
            complain(part.name, "column " + what);
            mismatch = mismatch || what.find(" is missing") == std::string::npos;
        }
        for (int i = 0; i < found->columns; ++i) {
            const bool known = std::any_of(
                part.columns.begin(), part.columns.end(),
                [&](const Column& column) { return found->names[i] == std::string_view(column.name); });
            if (!known)
                complain(part.name,
                         "column " + std::string(found->names[i]) + " is not one of the contract's");
        }
    }
    if (complaints.empty()) return;
    throw Error(mismatch ? sqlstate::datatype_mismatch : sqlstate::undefined_column,
                "queries in mau.custom_source return wrong columns", complaints + ".",
                "doc/sources.md lists the columns. Times are bigint, epoch milliseconds: "
                "floor(extract(epoch FROM t) * 1000)::bigint.");
}

Contract custom(const Homeserver& homeserver) {
    Contract contract;
    if (const std::string users = table_of(homeserver, "users"); !users.empty())
        contract.users = "SELECT * FROM " + users + " u ORDER BY u.registered_at NULLS FIRST";
    if (const std::string threepids = table_of(homeserver, "threepids"); !threepids.empty()) {
        contract.threepids = "SELECT * FROM " + threepids + " t";
        // The row of the present owner of an address may be old.
        Homeserver always = homeserver;
        always.since = 0;
        contract.holders =
            "SELECT t.user_id, t.medium, t.address FROM " + table_of(always, "threepids") +
            " t"
            " WHERE (t.medium, t.address) IN (SELECT r.medium, r.address"
            "   FROM ROWS FROM (unnest($1), unnest($2)) r(medium, address)) OR t.user_id = ANY ($3)";
    }
    const std::string activity = table_of(homeserver, "activity");
    contract.activity =
        "SELECT * FROM " + activity +
        " a WHERE a.last_seen BETWEEN $1 AND $2 ORDER BY a.last_seen FETCH FIRST $3 ROWS WITH TIES";
    contract.newest = "SELECT max(a.last_seen) FROM " + activity + " a WHERE a.last_seen <= $1";
    contract.last_seen = "SELECT a.user_id, max(a.last_seen) FROM " + activity +
                         " a WHERE a.last_seen BETWEEN 0 AND $1 GROUP BY a.user_id";
    contract.malformed = malformed("activity", "last_seen", activity);
    if (const std::string visits = table_of(homeserver, "visits"); !visits.empty()) {
        contract.visits = "SELECT * FROM " + visits + " v WHERE v.day BETWEEN $1 AND $2 ORDER BY v.day";
        contract.malformed_visits = malformed("visits", "day", visits);
    }
    contract.rows_go = "in mau only: the query for activity does not answer them any more";
    if (const std::string usage = substitute(query_of(homeserver, "usage"), "at", "$1"); !usage.empty())
        contract.usage = "SELECT q.usage::jsonb FROM (" + usage + "\n) q";
    return contract;
}

}  // namespace mau::source
