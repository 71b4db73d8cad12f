// The cost of a call that does nothing: the measure of the hot call.
#include "pg/prelude.hpp"

extern "C" {
PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(bench_empty);
PGDLLEXPORT Datum bench_empty(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    PG_RETURN_TEXT_P(cstring_to_text("unchanged"));
}
}
