// The SQL functions of activity, which homeservers call.
#include "activity/activity.hpp"

#include "pg/values.hpp"

namespace mau {
namespace {

using activity::Sighting;

/// A session's callers have few user agents.
Platform platform_of_agent(std::optional<std::string_view> user_agent) {
    static PlatformMemo memo;
    return user_agent ? memo.platform_of(*user_agent) : Platform::unknown;
}

/// A call's sighting. The key comes first: while the cache line is being fetched, the rest is read.
struct Call {
    explicit Call(const pg::Arguments& args)
        : user_id(args.user_id(0)),
          key(cache::key_of(user_id)),
          sighting{user_id, args.instant(1), platform_of_agent(args.text(2))} {}
    /// Whether it is a member's repeated sighting, or request, that the cache knows to change nothing.
    bool is_known_to_change_nothing() const {
        return cache::hit(key, sighting.at, activity::client_of(sighting.platform));
    }

    std::string_view user_id;
    cache::Key key;
    Sighting sighting;
};

/// An outcome's name as a text that is made once per session, because most answers are the same.
Datum text_of(Outcome outcome) {
    struct Text {
        alignas(std::int32_t) char bytes[VARHDRSZ + 12];
    };
    static Text texts[kOutcomes];
    char* const text = texts[static_cast<int>(outcome)].bytes;
    if (VARSIZE(text) == 0) {
        const std::string_view said = name(outcome);
        std::memcpy(VARDATA(text), said.data(), said.size());
        SET_VARSIZE(text, VARHDRSZ + said.size());
    }
    return PointerGetDatum(text);
}

Datum record_activity(FunctionCallInfo fcinfo) {
    Call call{pg::Arguments(fcinfo)};
    if (call.is_known_to_change_nothing()) return text_of(Outcome::unchanged);
    return text_of(pg::with_spi([&] {
        const auto config = config::try_config();
        if (config) {
            activity::clamp_to_now(*config, &call.sighting, 1);
            return activity::record(*config, call.sighting, call.key);
        }
        activity::defer(&call.sighting, 1);
        return Outcome::unchanged;
    }));
}

/// The elements of an array argument, NULLs marked.
struct Elements {
    int count = 0;
    Datum* values = nullptr;
    bool* nulls = nullptr;

    Elements(FunctionCallInfo fcinfo, int i, const char* name, Oid type, int length, bool by_value,
             char align) {
        if (fcinfo->args[i].isnull)
            throw Error(sqlstate::invalid_parameter, std::string(name) + " must not be NULL", {},
                        "Pass one element for each sighting; '{}' for none.");
        pg::guard([&] {
            ArrayType* array = DatumGetArrayTypeP(fcinfo->args[i].value);
            if (ARR_NDIM(array) > 1)
                ereport(ERROR,
                        (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("%s must have one dimension", name),
                         errdetail("It has %d.", ARR_NDIM(array)),
                         errhint("Pass one element for each sighting.")));
            deconstruct_array(array, type, length, by_value, align, &values, &nulls, &count);
        });
    }
    std::string_view text(int i) const { return pg::view_of(DatumGetPointer(values[i])); }
};

void check_same_length(const Elements& a, const char* a_name, const Elements& b, const char* b_name) {
    if (a.count == b.count) return;
    throw Error(sqlstate::invalid_parameter,
                std::string(a_name) + " and " + b_name + " must have the same number of elements",
                "They have " + std::to_string(a.count) + " and " + std::to_string(b.count) + ".",
                "Pass one element of each for each sighting.");
}

/// Runs a check of an element; an error says which one it is.
template <class Check>
void of_element(int i, Check&& check) {
    try {
        check();
    } catch (const Error& error) {
        const std::string which = "It is element " + std::to_string(i + 1) + ".";
        // A wrong encoding is not of that element alone.
        const bool encoding = std::string_view(error.state()) == sqlstate::untranslatable_character;
        throw Error(error.state(), error.what(),
                    error.detail().empty() ? which : error.detail() + " " + which,
                    encoding ? error.hint() : "Leave that sighting out.");
    }
}

std::vector<Sighting> sightings_of(FunctionCallInfo fcinfo) {
    const Elements ids(fcinfo, 0, "user_ids", TEXTOID, -1, false, TYPALIGN_INT);
    const Elements times(fcinfo, 1, "at", TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE);
    check_same_length(ids, "user_ids", times, "at");
    std::optional<Elements> agents;
    if (!fcinfo->args[2].isnull) {
        agents.emplace(fcinfo, 2, "user_agents", TEXTOID, -1, false, TYPALIGN_INT);
        check_same_length(ids, "user_ids", *agents, "user_agents");
    }
    std::vector<Sighting> sightings;
    sightings.reserve(static_cast<std::size_t>(ids.count));
    for (int i = 0; i < ids.count; ++i) {
        if (ids.nulls[i] || times.nulls[i])
            throw Error(sqlstate::invalid_parameter,
                        std::string(ids.nulls[i] ? "user_ids" : "at") + " must not contain NULL",
                        "Element " + std::to_string(i + 1) + " is NULL.", "Leave that sighting out.");
        const std::string_view id = ids.text(i);
        of_element(i, [&] { pg::check_user_id(id, "user_id"); });
        Instant at = 0;
        of_element(i, [&] { at = pg::check_instant(DatumGetTimestampTz(times.values[i]), "at"); });
        sightings.push_back(
            {id, at, agents && !agents->nulls[i] ? platform_of_agent(agents->text(i)) : Platform::unknown});
    }
    return sightings;
}

/// The number of users in sorted sightings.
std::size_t users_of(const std::vector<Sighting>& sightings) {
    std::size_t users = 0;
    for (std::size_t i = 0; i < sightings.size(); ++i)
        if (i == 0 || sightings[i].user_id != sightings[i - 1].user_id) ++users;
    return users;
}

Datum record_activities(FunctionCallInfo fcinfo) {
    std::vector<Sighting> sightings = sightings_of(fcinfo);
    pg::ResultSet result(fcinfo);
    std::int64_t users[kOutcomes] = {};
    users[static_cast<int>(Outcome::unchanged)] =
        static_cast<std::int64_t>(activity::drop_cached_sightings(sightings));
    activity::sort_newest(sightings);  // so that two batches meet their users in the same order
    std::vector<Outcome> outcomes(sightings.size(), Outcome::unchanged);
    if (!sightings.empty()) {
        const std::size_t recorded = pg::with_spi([&] {
            const auto config = config::try_config();
            if (config) {
                activity::clamp_to_now(*config, sightings.data(), sightings.size());
                return activity::record(*config, sightings.data(), sightings.size(), outcomes.data()).users;
            }
            activity::defer(sightings.data(), sightings.size());
            return users_of(sightings);
        });
        outcomes.resize(recorded);
    }
    for (const Outcome outcome : outcomes) ++users[static_cast<int>(outcome)];
    for (int i = 0; i < kOutcomes; ++i)
        if (users[i] > 0) result.add({name(static_cast<Outcome>(i)), users[i]});
    return Datum(0);
}

Datum check_auth_blocking(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const auto medium = args.text(1), address = args.text(2), appservice = args.text(4);
    Request request;
    if (!args.is_null(0)) request.user_id = args.user_id(0);
    if (medium.has_value() != address.has_value())
        throw Error(sqlstate::invalid_parameter, "medium and address must be given together",
                    std::string(medium ? "address" : "medium") + " is NULL.", "Pass both, or neither.");
    if (request.user_id && medium)
        throw Error(sqlstate::invalid_parameter, "user_id cannot be combined with medium and address", {},
                    "Pass user_id for a user's request, medium and address for a registration.");
    request.threepid_given = medium.has_value();
    request.user_type = args.text(3);
    request.by_appservice = appservice && !appservice->empty();
    const Instant at = args.instant(5);
    if (request.user_id && cache::hit(cache::key_of(*request.user_id), at, cache::kAnyClient)) {
        fcinfo->isnull = true;
        return Datum(0);
    }
    const auto body = pg::with_spi([&]() -> std::optional<std::string> {
        const auto config = config::try_config();
        if (!config) return std::nullopt;  // a lock on mau's tables blocks no user
        if (medium) request.threepid_reserved = config::is_reserved(*config, *medium, *address);
        return activity::check(*config, request, at);
    });
    if (body) return pg::jsonb_datum(*body);
    fcinfo->isnull = true;
    return Datum(0);
}

Datum admit(FunctionCallInfo fcinfo) {
    Call call{pg::Arguments(fcinfo)};
    std::optional<std::string> body;
    if (!call.is_known_to_change_nothing())
        body = pg::with_spi([&]() -> std::optional<std::string> {
            const auto config = config::try_config();
            if (config) {
                activity::clamp_to_now(*config, &call.sighting, 1);
                return activity::admit(*config, call.sighting, call.key);
            }
            activity::defer(&call.sighting, 1);
            return std::nullopt;
        });
    if (body) return pg::jsonb_datum(*body);
    fcinfo->isnull = true;
    return Datum(0);
}

Datum last_seen(FunctionCallInfo fcinfo) {
    const std::string_view user_id = pg::Arguments(fcinfo).user_id(0);
    const auto seen = pg::with_spi([&]() -> std::optional<Instant> {
        static pg::Statement query(
            "SELECT greatest((SELECT m.\"timestamp\" FROM mau.monthly_active_users m"
            "                  WHERE m.user_id = $1 AND m.\"timestamp\" > 0),"
            " (SELECT u.last_seen FROM mau.users u WHERE u.user_id = $1))",
            {TEXTOID});
        return query.read(user_id).at(0, 0).optional_integer();
    });
    if (seen) return TimestampTzGetDatum(pg::to_timestamp(*seen));
    fcinfo->isnull = true;
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_record_activity, record_activity);
MAU_FUNCTION(mau_record_activities, record_activities);
MAU_FUNCTION(mau_check_auth_blocking, check_auth_blocking);
MAU_FUNCTION(mau_admit, admit);
MAU_FUNCTION(mau_last_seen, last_seen);

}  // namespace mau
