// Rows of mau.active_days, as a scan returns them. Included only by files of this folder.
#pragma once

#include "bitmap/bitmap.hpp"

#include "pg/table.hpp"

namespace mau::history {

namespace days {
enum Column { chunk, day, platform, service, users, purged_until, changed_at };  // of mau.active_days
}

/// The result of decoding a row's bitmap.
struct Decoded {
    std::uint32_t users = 0;
    char trouble[200] = "";
};
/// Adds a row's bitmap to `into`, only the users that are also in `keep` if it is given; inside a guard only.
Decoded decode_row(TupleTableSlot* slot, std::int32_t chunk, bitmap::Bits& into,
                   const bitmap::Bits* keep = nullptr);

}  // namespace mau::history
