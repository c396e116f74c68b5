#pragma once
/// The file of a bound Unix socket.

#include <plait/endpoint.hpp>

#include <cstdint>
#include <utility>

namespace plait::inline v1 {
namespace detail {

/// What tells one file from another that stands under the same name later.
struct file_identity {
    std::uint64_t device = 0;
    std::uint64_t number = 0;

    friend bool operator==(const file_identity&, const file_identity&) noexcept = default;
};

/// Owns the file: removes it, unless another one stands there by then.
class socket_file {
  public:
    socket_file() noexcept = default;
    socket_file(const unix_path& path, file_identity identity) noexcept : path_(path), identity_(identity) {}
    socket_file(socket_file&& other) noexcept
        : path_(std::exchange(other.path_, unix_path())), identity_(other.identity_) {}
    socket_file& operator=(socket_file&& other) noexcept {
        if (this == &other) return *this;
        remove();
        path_ = std::exchange(other.path_, unix_path());
        identity_ = other.identity_;
        return *this;
    }
    ~socket_file() { remove(); }

    PLAIT_API void remove() noexcept;
    /// Somebody else cares for it.
    void leave() noexcept { path_ = unix_path(); }

  private:
    unix_path path_; ///< unnamed: there is no file
    file_identity identity_;
};

} // namespace detail
} // namespace plait::inline v1
