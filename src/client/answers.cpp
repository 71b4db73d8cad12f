#include "client/answers.hpp"

namespace mau::client {
namespace {

constexpr std::size_t kConnections = 8;

}  // namespace

std::vector<Answer> ask_each(const Options& options, Seconds timeout, const std::string& sql,
                             const std::vector<Cell>& values) {
    std::vector<std::pair<std::string, Problem>> not_listed;
    const std::vector<Target> targets = all_targets(options, timeout, not_listed);
    std::vector<Answer> all(targets.size());
    in_parallel(targets.size(), kConnections, [&](std::size_t i) {
        Answer& answer = all[i];
        answer.database = targets[i].name;
        try {
            Connection connection = open_database(targets[i], timeout);
            if (answer.database.empty()) answer.database = connection.name();
            answer.table = connection.run(sql, values).table();
        } catch (const NoExtension& problem) {
            if (!targets[i].is_found) answer.problem = problem;
        } catch (const Problem& problem) {
            answer.problem = problem;
        }
    });
    std::vector<Answer> answers;
    for (Answer& answer : all)
        if (answer.table || answer.problem) answers.push_back(std::move(answer));
    for (auto& [name, problem] : not_listed) answers.push_back({name, std::nullopt, problem});
    if (answers.empty()) {
        throw Problem("no database of this server has the extension mau",
                      "in a homeserver's database: CREATE EXTENSION mau");
    }
    return answers;
}

}  // namespace mau::client
