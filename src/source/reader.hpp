// Reading a homeserver's tables: with whose rights, and only the pages that changed.
#pragma once

#include "pg/spi.hpp"

namespace mau::source {

/// Switches to the role that reads the homeserver's tables, under SECURITY_RESTRICTED_OPERATION. An error while
/// switched is put right by the end of the (sub)transaction, which restores the role.
class ReadAs {
  public:
    explicit ReadAs(Oid role);
    /// Back to who we were; call it before anything is written.
    void done();

  private:
    Oid saved_role_;
    int saved_context_;
};

/// The role that reads: the caller, where the caller is no superuser; else the role that attached, or where that
/// one is a superuser, the owner of `table` (law L10). Errors: 42704 if the role that attached is gone.
Oid reading_role(const std::string& attached_by, Oid table);

/// A run of a table's blocks: [first, end).
struct Blocks {
    std::uint32_t first, end;
};

/// The blocks of a table, from `from` on, that are not known to be unchanged since its last VACUUM; all of them
/// where `everything`. Runs that are near each other are one. Nothing for what is not a plain table: read it whole.
std::optional<std::vector<Blocks>> changed_blocks(Oid table, std::uint32_t from, bool everything);

/// What identifies a table's state between two sweeps: its file and how often it was vacuumed. VACUUM marks pages
/// as unchanged that we may not have seen, so after one everything is read again.
struct Fingerprint {
    std::int64_t filenode = 0, vacuums = 0;
    bool operator==(const Fingerprint& other) const {
        return filenode == other.filenode && vacuums == other.vacuums;
    }
};
Fingerprint fingerprint(Oid table);

}  // namespace mau::source
