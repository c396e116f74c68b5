#pragma once
/// A value that counts its own copies, moves and lives.

#include <utility>

namespace support {

/// What happened to the `tracked` values that share it.
struct tally {
    int live = 0;
    int copies = 0;
    int moves = 0;
};

class tracked {
  public:
    explicit tracked(tally& counts, int number = 0) : value(number), counts_(&counts) { ++counts_->live; }
    tracked(const tracked& other) : value(other.value), counts_(other.counts_) {
        ++counts_->live;
        ++counts_->copies;
    }
    tracked(tracked&& other) noexcept : value(std::exchange(other.value, -1)), counts_(other.counts_) {
        ++counts_->live;
        ++counts_->moves;
    }
    tracked& operator=(const tracked& other) {
        value = other.value;
        ++counts_->copies;
        return *this;
    }
    tracked& operator=(tracked&& other) noexcept {
        value = std::exchange(other.value, -1);
        ++counts_->moves;
        return *this;
    }
    ~tracked() { --counts_->live; }

    int value; ///< -1 once it was moved from

  private:
    tally* counts_;
};

/// Runs a function at the end of a scope.
template <class F>
class at_exit {
  public:
    explicit at_exit(F f) : f_(std::move(f)) {}
    at_exit(const at_exit&) = delete;
    at_exit& operator=(const at_exit&) = delete;
    ~at_exit() { f_(); }

  private:
    F f_;
};

} // namespace support
