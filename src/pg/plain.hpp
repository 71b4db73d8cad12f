// Plain tables: ordinary tables whose rows are all in their own heap, where statements read them, too. mau
// reads and writes its tables, and reads changed pages of a homeserver's, without statements; that is right
// for plain tables only.
#pragma once

#include "pg/boundary.hpp"

namespace mau::pg {

/// Registers the invalidation callback; called once per process.
void init_plain_tables();

// The rest inside a guard only.

/// Why a table is not plain, as the predicate of a sentence about it, and what to do. Nulls for a plain one.
struct NotPlain {
    const char* reason = nullptr;
    const char* remedy = nullptr;
};

/// Returns why a relation that is open and locked is not plain. The session remembers which tables are plain
/// until PostgreSQL invalidates what it knows of them. Needs an active snapshot.
NotPlain why_not_plain(Relation relation);

/// Opens a table of ours. Error 55000 if it is not plain.
Relation open_plain(Oid table, LOCKMODE mode);

}  // namespace mau::pg
