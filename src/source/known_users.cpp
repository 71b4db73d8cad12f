#define MAU_PURE_SOURCE
#include "source/known_users.hpp"

#include <algorithm>

namespace mau::source {

namespace {

constexpr int kSparePercent = 150;  // sets are filled unevenly

std::size_t sets_for(std::int64_t users, std::size_t entries, std::size_t most) {
    const auto wanted = static_cast<std::size_t>(std::clamp<std::int64_t>(users, 1, std::int64_t{1} << 32));
    return std::min(wanted * kSparePercent / 100 / entries + 1, most);
}

}  // namespace

KnownUsers::KnownUsers(std::int64_t users, std::size_t max_bytes)
    : sets_(sets_for(users, kEntries, max_bytes / sizeof(Set))) {}

const KnownUsers::Set& KnownUsers::set_of(const UserHash& hash) const {
    return sets_[(hash.first >> 32) * sets_.size() >> 32];
}

std::optional<KnownUser> KnownUsers::find(const UserHash& hash) const {
    const Set& set = set_of(hash);
    for (int i = 0; i < kEntries; ++i) {
        const std::uint64_t value = set.values[i];
        if (set.checks[i] != hash.second || value == 0 || (value ^ hash.first) << 48 != 0) continue;
        return KnownUser{static_cast<std::int64_t>(value >> (64 - kNumberBits)) - 2,
                         static_cast<std::uint32_t>(value >> 16) & ((1U << kServiceBits) - 1)};
    }
    return std::nullopt;
}

void KnownUsers::add(const UserHash& hash, const KnownUser& user) {
    const std::int64_t number = user.number + 2;
    if (number >> kNumberBits != 0 || user.service >> kServiceBits != 0) return;
    auto& set = const_cast<Set&>(set_of(hash));
    int entry = 0;
    while (entry < kEntries && set.values[entry] != 0) ++entry;
    if (entry == kEntries) entry = static_cast<int>(next_++ % kEntries);
    set.checks[entry] = hash.second;
    set.values[entry] = static_cast<std::uint64_t>(number) << (64 - kNumberBits) |
                        std::uint64_t{user.service} << 16 | (hash.first & 0xFFFF);
}

}  // namespace mau::source
