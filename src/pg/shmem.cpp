#include "pg/shmem.hpp"

#include <sys/stat.h>

namespace mau::pg {

namespace {

SharedPiece* first_piece = nullptr;
shmem_request_hook_type previous_request = nullptr;
shmem_startup_hook_type previous_startup = nullptr;

/// Identifies a database: the OID and the file that CREATE DATABASE made, because a later database may get
/// the same OID.
struct Identity {
    Oid oid;
    std::uint64_t file, made;
    bool operator==(const Identity& other) const {
        return oid == other.oid && file == other.file && made == other.made;
    }
};

Identity my_identity() {
    struct stat version {};
    const std::string path = std::string(DatabasePath) + "/PG_VERSION";
    if (stat(path.c_str(), &version) != 0) return {MyDatabaseId, 0, 0};
    return {MyDatabaseId, static_cast<std::uint64_t>(version.st_ino),
            static_cast<std::uint64_t>(version.st_mtim.tv_sec) * 1'000'000'000 +
                static_cast<std::uint64_t>(version.st_mtim.tv_nsec)};
}

/// The databases that have a number, in the order of their first use.
struct Databases {
    LWLock lock;
    pg_atomic_uint32 count;
    Identity known[kMaxDatabases];
};

SharedPiece databases(
    "mau databases", [] { return sizeof(Databases); },
    [](void* memory) {
        auto* all = static_cast<Databases*>(memory);
        LWLockInitialize(&all->lock, LWLockNewTrancheId());
        pg_atomic_init_u32(&all->count, 0);
    });

}  // namespace

struct SharedPieces {
    static void request() {
        if (previous_request) previous_request();
        for (SharedPiece* piece = first_piece; piece; piece = piece->next_)
            RequestAddinShmemSpace(MAXALIGN(piece->size_()));
    }

    static void start() {
        if (previous_startup) previous_startup();
        LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
        for (SharedPiece* piece = first_piece; piece; piece = piece->next_) {
            bool found = false;
            std::size_t const size = piece->size_();
            piece->memory_ = ShmemInitStruct(piece->name_, size, &found);
            if (!found) {
                std::memset(piece->memory_, 0, size);
                piece->made_(piece->memory_);
            }
        }
        LWLockRelease(AddinShmemInitLock);
    }
};

SharedPiece::SharedPiece(const char* name, Size size, Made made)
    : name_(name), size_(size), made_(made), next_(first_piece) {
    first_piece = this;
}

void init_shared_memory() {
    if (!process_shared_preload_libraries_in_progress) return;
    previous_request = shmem_request_hook;
    shmem_request_hook = SharedPieces::request;
    previous_startup = shmem_startup_hook;
    shmem_startup_hook = SharedPieces::start;
}

int database_number() {
    static int number = -1;  // a session never changes its database
    static bool known_to_have_none = false;
    auto* all = databases.get<Databases>();
    if (number >= 0 || known_to_have_none || !all || !OidIsValid(MyDatabaseId)) return number;
    const Identity mine = my_identity();
    auto find = [&](std::uint32_t from, std::uint32_t to) {
        for (std::uint32_t i = from; i < to; ++i)
            if (all->known[i] == mine) return static_cast<int>(i);
        return -1;
    };
    const std::uint32_t known = pg_atomic_read_u32(&all->count);
    number = find(0, known);
    if (number >= 0) return number;
    guard([&] { LWLockAcquire(&all->lock, LW_EXCLUSIVE); });
    const std::uint32_t count = pg_atomic_read_u32(&all->count);
    number = find(known, count);
    if (number < 0 && count < kMaxDatabases) {
        all->known[count] = mine;
        pg_write_barrier();
        pg_atomic_write_u32(&all->count, count + 1);
        number = static_cast<int>(count);
    }
    LWLockRelease(&all->lock);
    known_to_have_none = number < 0;
    return number;
}

}  // namespace mau::pg
