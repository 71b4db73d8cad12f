// The state of all databases for mau.fleet(): ticks publish that of their database in shared memory.
#pragma once

#include "worker/slots.hpp"

namespace mau::worker::fleet {

/// Reads this database's health and figures. Needs SPI and a transaction.
Figures read_figures();

}  // namespace mau::worker::fleet
