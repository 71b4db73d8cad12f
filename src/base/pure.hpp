// pure: keeps PostgreSQL out of the modules that must compile and be tested without a server.
//
// Every header of a pure module includes this one, so a glue file has to include the pure headers first and
// the prelude last. A pure module's own .cpp also says `#define MAU_PURE_SOURCE` on its first line: from here
// on the compiler then refuses any PostgreSQL header in that file. There is no include guard, because the
// check has to be made at every pure header.

#ifndef MAU_PURE_SEALED

#if defined(POSTGRES_H) || defined(POSTGRES_FE_H) || defined(PG_VERSION_NUM)
#error \
    "a PostgreSQL header came in before a pure module's header: include pure modules first, the prelude last"
#endif

#ifdef MAU_PURE_SOURCE
#define MAU_PURE_SEALED
#pragma GCC poison POSTGRES_H POSTGRES_FE_H POSTGRES_EXT_H PG_VERSION_NUM
#endif

#endif
