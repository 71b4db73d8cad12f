"""A Synapse module for tests. POST /_test/run_loops runs at once what Synapse runs every few minutes or hours to keep its figures.

It answers when the figures are in the metrics, and does not wait for the report of usage statistics, which it sends last.
"""

from synapse.http.server import DirectServeJsonResource
from synapse.logging.context import PreserveLoggingContext, make_deferred_yieldable

LOOPS = (
    "generate_user_daily_visits",
    "reap_monthly_active_users",
    "generate_monthly_active_users",
    "generate_non_deactivated_user_count",
    "common_usage_metrics_update_gauges",
    "phone_stats_home",
)


class RunLoops(DirectServeJsonResource):
    def __init__(self, config, api):
        self._clock = api._hs.get_clock()
        super().__init__(clock=self._clock)
        api.register_web_resource("/_test/run_loops", self)

    @staticmethod
    def parse_config(config):
        return config

    async def _async_render_POST(self, request):
        calls = {call.kw.get("desc", call.f.__name__): call for call in self._clock._looping_calls}
        done = [name for name in LOOPS if name in calls]
        for name in done:
            call = calls[name]
            with PreserveLoggingContext():
                result = call.f(*call.a, **call.kw)
            if name != "phone_stats_home":
                await make_deferred_yieldable(result)
        return 200, {"done": done}
