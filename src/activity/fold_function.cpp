// The SQL function mau.fold: moves visits into the bitmaps of the history, and carries out deferred calls.
#include "bitmap/bitmap.hpp"

#include "history/fold.hpp"

#include <algorithm>

#include "activity/replay.hpp"
#include "pg/values.hpp"
#include "tasks/tasks.hpp"

namespace mau {
namespace {

Datum fold(FunctionCallInfo fcinfo) {
    const pg::Arguments args(fcinfo);
    const Instant at = args.instant(0);
    const std::int64_t max_rows = args.max_rows(1);
    pg::guard([] { PreventCommandIfReadOnly("mau.fold()"); });
    return tasks::run(fcinfo, history::kFoldTask, [&](const tasks::Task& task, pg::ResultSet& result) {
        // A fold for a time to come must not purge the present.
        const Instant now = std::min(at, pg::to_instant(GetCurrentTimestamp()));
        const auto config = config::config();
        history::Folder folder(*config, history::first_kept_day(now));
        const std::int64_t visits = folder.take_visits(max_rows);
        const std::int64_t purged = folder.purge(max_rows);
        const replay::Replayed calls =
            visits < max_rows ? replay::run(*config, now, max_rows - visits) : replay::Replayed();
        task.end(visits + purged + calls.carried_out);
        result.add({"visits", visits});
        result.add({"bitmaps", folder.rows});
        result.add({"purged", purged});
        if (folder.skipped > 0) result.add({"skipped", folder.skipped});
        if (calls.carried_out > 0) result.add({"calls", calls.carried_out});
        if (calls.more || visits >= max_rows || purged >= max_rows) result.add({"more", std::int64_t{1}});
    });
}

}  // namespace

MAU_FUNCTION(mau_fold, fold);

}  // namespace mau
