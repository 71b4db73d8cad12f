// signups: the users who registered in each period, sorted by chunks while they are read in the order of
// time.
#pragma once

#include "base/pure.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bitmap/bitmap.hpp"

namespace mau {

/// The users of each chunk and cohort, within bounded memory. If it does not hold all, the chunks with the
/// highest numbers are left out; the caller reads them in another pass. Users numbered in the order of
/// registration take almost no memory; in any other order they take two bytes each.
class Signups {
  public:
    using Key = std::pair<std::int32_t, std::uint32_t>;  // chunk, cohort

    /// A set of users of a chunk: a few as places, many as a bitmap.
    class Users {
      public:
        void add(std::uint16_t position);
        void add_to(bitmap::Bits& users) const;
        std::size_t bytes() const;

      private:
        std::vector<std::uint16_t> positions_;
        std::unique_ptr<bitmap::Bits> bits_;
    };

    explicit Signups(std::size_t most_bytes) : most_bytes_(most_bytes) {}

    /// Forgets everything; collects chunks from `first` on.
    void begin(std::int32_t first);
    void add(std::int32_t chunk, std::uint16_t position, std::uint32_t cohort);
    /// The first chunk that was left out, or nothing if all are here.
    std::optional<std::int32_t> left_out() const { return left_out_; }
    const std::map<Key, Users>& users() const { return users_; }

  private:
    void make_room();

    std::size_t most_bytes_, bytes_ = 0;
    std::int32_t first_ = 0;
    std::optional<std::int32_t> left_out_;
    std::map<Key, Users> users_;
    std::map<Key, Users>::iterator latest_ = users_.end();  // the next one mostly has the same key
};

}  // namespace mau
