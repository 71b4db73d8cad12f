// Shared memory: pieces for the modules, and a number for each database.
//
// Everything in shared memory is there for speed and can be lost at any moment (a crash of any backend resets
// it); it is zeroed when it is made. Without shared_preload_libraries there is none, and modules do without.
#pragma once

#include "pg/boundary.hpp"

namespace mau::pg {

/// A module's piece of shared memory. Declared once, as a static; asked for while the library is preloaded.
class SharedPiece {
  public:
    using Size = std::size_t (*)();
    using Made = void (*)(void* memory);
    /// `size` is asked when the server knows its limits (MaxBackends); `made` runs once on the zeroed piece.
    SharedPiece(const char* name, Size size, Made made);
    /// The piece; null without preload.
    template <class T>
    T* get() const {
        return static_cast<T*>(memory_);
    }

  private:
    friend struct SharedPieces;
    const char* name_;
    Size size_;
    Made made_;
    void* memory_ = nullptr;
    SharedPiece* next_;
};

/// Installs the hooks; called once from _PG_init, after the modules' statics are there.
void init_shared_memory();

/// The largest number of databases that get a number; those beyond it are served as without preload.
inline constexpr int kMaxDatabases = 1024;

/// The number of this session's database, from 0 on, given at its first use and kept until shared memory is
/// made anew; -1 without preload or when there are too many.
int database_number();

}  // namespace mau::pg
