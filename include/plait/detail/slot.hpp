#pragma once
/// Where a result waits for who takes it: a value, a reference, or nothing.

#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace plait::inline v1 {
namespace detail {

/// Empty, then filled by emplace(), then emptied by take(), each once.
template <class T>
class slot {
  public:
    template <class... A>
    void emplace(A&&... a) {
        value_.emplace(std::forward<A>(a)...);
    }
    T take() { return std::move(*value_); }

  private:
    std::optional<T> value_;
};

template <class T>
class slot<T&> {
  public:
    void emplace(T& value) noexcept { value_ = std::addressof(value); }
    T& take() const noexcept { return *value_; }

  private:
    T* value_ = nullptr;
};

template <>
class slot<void> {
  public:
    void emplace() const noexcept {}
    void take() const noexcept {}
};

template <class T>
struct regular_type {
    using type = T;
};
template <class T>
struct regular_type<T&> {
    using type = std::reference_wrapper<T>;
};
template <>
struct regular_type<void> {
    using type = std::monostate;
};

/// What stands for a T among other values: void as std::monostate, a T& as std::reference_wrapper<T>.
template <class T>
using regular = typename regular_type<T>::type;

} // namespace detail
} // namespace plait::inline v1
