// The module: a table of contents.
#include "cohort/alert.hpp"
#include "config/config.hpp"
#include "pg/plain.hpp"
#include "pg/shmem.hpp"
#include "seats/seats.hpp"
#include "cache/cache.hpp"
#include "source/source.hpp"
#include "worker/worker.hpp"

extern "C" {
PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

void _PG_init(void) {
    mau::pg::enter([] {
        mau::seats::init();
        mau::cohort::init_alerts();
        mau::cache::init();
        mau::config::init();
        mau::source::init();
        mau::worker::init();
        mau::pg::init_plain_tables();
        mau::pg::init_shared_memory();
        mau::pg::guard([] { MarkGUCPrefixReserved("mau"); });
    });
}
