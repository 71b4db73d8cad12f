// The SQL function explain: how the homeserver itself answers a user, and mau's rules about the user.
#include "source/reading.hpp"

#include "history/past.hpp"
#include "pg/values.hpp"

namespace mau::source {

namespace {

/// Numbers the rules and makes rows of them.
class ExplainTrace : public Trace {
  public:
    explicit ExplainTrace(pg::ResultSet& result) : result_(result) {}
    void rule(const char* rule, bool holds, const std::string& detail) override {
        result_.add({++step_, rule, holds, detail});
    }

  private:
    pg::ResultSet& result_;
    int step_ = 0;
};

/// Adds the homeserver's own answers, where mau is attached to one whose tables say so.
void add_answers(const Config& config, std::string_view user_id, Trace& trace) {
    pg::Rows answers;
    const auto trouble = pg::attempt([&] {
        const std::optional<Source> source = attached();
        if (!source) return;
        Reading reading(config, *source);
        if (!reading.has_answers()) return;
        reading.begin();
        answers = reading.answers(user_id);
        reading.done();
    });
    if (trouble) return trace.rule("homeserver's own answers", false, "cannot be read: " + trouble->message);
    for (std::uint64_t i = 0; i < answers.count; ++i)
        trace.rule(answers.at(i, 0).string().c_str(), answers.at(i, 1).boolean(), answers.at(i, 2).string());
}

Datum explain(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const std::string_view user_id = args.user_id(0);
    const Instant at = args.instant(1);
    pg::ResultSet result(fcinfo);
    pg::with_spi([&] {
        past::refuse(at,
                     "Leave at out: only a decision at present can be explained. mau.last_seen says when a "
                     "user was seen.");
        const auto config = config::config();
        ExplainTrace trace(result);
        add_answers(*config, user_id, trace);
        activity::explain(*config, user_id, at, trace);
    });
    return Datum(0);
}

}  // namespace

MAU_FUNCTION(mau_explain, explain);

}  // namespace mau::source
