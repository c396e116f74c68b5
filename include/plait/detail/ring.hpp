#pragma once
/// A queue in recycled memory that doubles when it is full, and keeps its memory when it is empty.

#include <plait/detail/memory.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace plait::inline v1 {
namespace detail {

template <class T>
class ring {
  public:
    ring() noexcept = default;
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() {
        while (size_ > 0) drop_front();
        give(slots_, slot_count_);
    }

    std::size_t size() const noexcept { return size_; }

    /// Makes sure that the next push_back needs no memory. May throw std::bad_alloc; then nothing has changed.
    void reserve_one() {
        if (size_ < slot_count_) return;
        const std::size_t wanted = std::max<std::size_t>(4, 2 * slot_count_);
        T* larger = get(wanted);
        const std::size_t held = size_;
        for (std::size_t i = 0; i < held; ++i) std::construct_at(larger + i, pop_front());
        give(std::exchange(slots_, larger), std::exchange(slot_count_, wanted));
        first_ = 0;
        size_ = held;
    }
    void push_back(T&& value) noexcept {
        std::construct_at(slot(size_), std::move(value));
        ++size_;
    }
    T pop_front() noexcept {
        T value = std::move(*slot(0));
        drop_front();
        return value;
    }

  private:
    static T* get(std::size_t count) { return static_cast<T*>(allocate(count * sizeof(T))); }
    static void give(T* slots, std::size_t count) noexcept {
        if (slots) deallocate(slots, count * sizeof(T));
    }

    /// The i-th value, or the place for it. The number of slots is a power of two.
    T* slot(std::size_t i) const noexcept { return slots_ + ((first_ + i) & (slot_count_ - 1)); }

    void drop_front() noexcept {
        std::destroy_at(slot(0));
        ++first_;
        --size_;
    }

    T* slots_ = nullptr;
    std::size_t slot_count_ = 0;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
};

} // namespace detail
} // namespace plait::inline v1
