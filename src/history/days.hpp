// Rows of mau.active_days, as a scan shows them. To be included by the files of this folder only.
#pragma once

#include "bitmap/bitmap.hpp"

#include "pg/table.hpp"

namespace mau::history {

namespace days {
enum Column { chunk, day, platform, service, users };  // of mau.active_days
}

/// A text of a row, as long as the slot holds the row; inside a guard only.
inline std::string_view text_of(TupleTableSlot* slot, int column) {
    const auto* value =
        pg_detoast_datum_packed(reinterpret_cast<varlena*>(DatumGetPointer(slot->tts_values[column])));
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

/// The result of decoding a row's bitmap.
struct Decoded {
    std::uint32_t users = 0;
    char trouble[200] = "";
};
/// Adds a row's bitmap to `into`; inside a guard only.
Decoded decode_row(TupleTableSlot* slot, std::int32_t chunk, bitmap::Bits& into);

}  // namespace mau::history
