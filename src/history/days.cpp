#include "history/days.hpp"

namespace mau::history {

Decoded decode_row(TupleTableSlot* slot, std::int32_t chunk, bitmap::Bits& into, const bitmap::Bits* keep) {
    Decoded decoded;
    auto* const stored = reinterpret_cast<varlena*>(DatumGetPointer(slot->tts_values[days::users]));
    varlena* const users = pg_detoast_datum_packed(stored);
    try {
        decoded.users = bitmap::decode(VARDATA_ANY(users), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(users)),
                                       bitmap::key_of(static_cast<std::uint64_t>(chunk)), into, keep);
    } catch (const bitmap::CorruptBitmap& error) {
        strlcpy(decoded.trouble, error.what(), sizeof decoded.trouble);
    }
    if (users != stored) pfree(users);
    return decoded;
}

}  // namespace mau::history
