#define MAU_PURE_SOURCE
#include "history/signups.hpp"

#include <iterator>

namespace mau {

void Signups::Users::add(std::uint16_t position) {
    if (bits_) {
        bits_->set(position);
        return;
    }
    positions_.push_back(position);
    if (positions_.size() < bitmap::kArrayLimit) return;
    bits_ = std::make_unique<bitmap::Bits>();
    bits_->clear();
    for (const std::uint16_t known : positions_) bits_->set(known);
    positions_ = {};
}

void Signups::Users::add_to(bitmap::Bits& users) const {
    if (bits_) users |= *bits_;
    for (const std::uint16_t position : positions_) users.set(position);
}

std::size_t Signups::Users::bytes() const {
    constexpr std::size_t kNode = 112;  // of the map, and what the allocator adds
    return kNode + (bits_ ? sizeof(bitmap::Bits) : positions_.capacity() * sizeof(std::uint16_t));
}

void Signups::begin(std::int32_t first) {
    users_.clear();
    latest_ = users_.end();
    bytes_ = 0;
    first_ = first;
    left_out_.reset();
}

void Signups::add(std::int32_t chunk, std::uint16_t position, std::uint32_t cohort) {
    if (chunk < first_ || (left_out_ && chunk >= *left_out_)) return;
    const Key key{chunk, cohort};
    if (latest_ == users_.end() || latest_->first != key) {
        const auto [it, fresh] = users_.try_emplace(key);
        latest_ = it;
        if (fresh) bytes_ += it->second.bytes();
    }
    Users& users = latest_->second;
    bytes_ -= users.bytes();
    users.add(position);
    bytes_ += users.bytes();
    if (bytes_ > most_bytes_) make_room();
}

/// Leaves chunks out, from the last on, until half the room is free; one stays.
void Signups::make_room() {
    while (bytes_ > most_bytes_ / 2 && users_.begin()->first.first != users_.rbegin()->first.first) {
        left_out_ = users_.rbegin()->first.first;
        while (users_.rbegin()->first.first == *left_out_) {
            bytes_ -= users_.rbegin()->second.bytes();
            users_.erase(std::prev(users_.end()));
        }
    }
    latest_ = users_.end();
}

}  // namespace mau
