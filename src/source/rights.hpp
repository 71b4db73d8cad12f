// The role that reads a homeserver's tables.
//
// Reading a view or a foreign table runs code that its owner chose, and so does a function or a cast that a
// query calls. The planner evaluates expressions of indexes, statistics and constraints. That code runs with
// the rights of the role that reads. So the role is chosen from everything
// that the queries name, and code runs only where its owner has the rights of that role anyway.
#pragma once

#include "pg/spi.hpp"
#include "source/contract.hpp"

namespace mau::source {

/// Returns the role that reads: the caller, where the caller is no superuser; else the role that attached;
/// where that one is a superuser, the one owner of everything that the queries name; and where that is a
/// superuser too, pg_read_all_data. Locks the relations that the queries name against being altered until the
/// end of the transaction. Errors: 42704 where the role that attached is gone; 42501 where a superuser
/// attached and the queries name objects of several roles, or where code would run with more rights than
/// its owner has.
Oid reading_role(const std::string& attached_by, const std::vector<ContractQuery>& queries);

}  // namespace mau::source
