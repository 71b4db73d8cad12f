// A homeserver of your own: queries with the contract's columns, from mau.custom_source.
#pragma once

#include "pg/spi.hpp"
#include "source/contract.hpp"

namespace mau::source {

/// Checks that each query is one SELECT with the contract's columns; the error names every column that is
/// missing, unknown or of another type.
void check_queries(const Homeserver& homeserver);

}  // namespace mau::source
