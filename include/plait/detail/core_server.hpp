#pragma once
/// serve_per_core(): what one context does of it, and what the contexts share.

#include <plait/detail/server.hpp>
#include <plait/detail/socket_file.hpp>
#include <plait/endpoint.hpp>
#include <plait/tcp.hpp>

#include <memory>
#include <vector>

namespace plait::inline v1 {
namespace detail {

class serving_group;
struct core_inbox;

/// Where the contexts of one serve_per_core() call listen.
class serving_place {
  public:
    serving_place(const endpoint& local, const listen_options& options) noexcept
        : local_(local), options_(options) {}
    explicit serving_place(const unix_path& path) noexcept : path_(path), is_path_(true) {}
    /// A listener that there is already.
    serving_place(native_socket listener, bool is_path) noexcept : adopted_(listener), is_path_(is_path) {}

    bool same_as(const serving_place& other) const noexcept {
        return is_path_ == other.is_path_ && local_ == other.local_ && path_ == other.path_ &&
               adopted_ == other.adopted_;
    }

  private:
    friend class serving_group;
    friend class core_server;

    endpoint local_;
    listen_options options_;
    unix_path path_;
    native_socket adopted_ = no_socket;
    bool is_path_ = false;
};

/// A socket that no driver has yet. Closes it, unless it was taken.
class PLAIT_API loose_socket {
  public:
    loose_socket() noexcept = default;
    explicit loose_socket(native_socket handle) noexcept : handle_(handle) {}
    loose_socket(loose_socket&& other) noexcept : handle_(other.take()) {}
    loose_socket& operator=(loose_socket&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = other.take();
        }
        return *this;
    }
    ~loose_socket() { reset(); }

    bool is_open() const noexcept { return handle_ != no_socket; }
    native_socket get() const noexcept { return handle_; }
    native_socket take() noexcept { return std::exchange(handle_, no_socket); }
    void reset() noexcept;

  private:
    native_socket handle_ = no_socket;
};

/// One context's part of a serve_per_core() call. Either each context has a listener of its own on the same port, or
/// the first one accepts for all and hands the sockets out, before any driver knows them.
class PLAIT_API core_server {
  public:
    core_server(environment& env, const serve_options& options);
    core_server(const core_server&) = delete;
    core_server& operator=(const core_server&) = delete;
    ~core_server();

    /// Watches the signals, listens, or is ready to be handed what another context accepts.
    status join(const serving_place& place);

    /// The next connection for a session here. An error: there will be none.
    task<io_result<loose_socket>> next() { return listener_ ? next_accepted() : next_handed(); }
    socket_state* take_in(loose_socket& accepted);

    /// Ends what is left, here and, unless it is draining that ended this, in the other contexts.
    task<io_result<void>> finish(std::error_code error);

  private:
    friend class server;
    friend class serving_group;
    friend struct handed_socket;
    friend struct accepting_over;
    friend struct group_ended;
    friend struct slot_free;
    struct slot_request;

    task<io_result<loose_socket>> next_accepted();
    task<io_result<loose_socket>> next_handed();
    task<bool> wait_for_room(bool take);
    void session_ended() noexcept;

    environment& env_;
    const serve_options& options_;
    std::shared_ptr<serving_group> group_;
    std::shared_ptr<core_inbox> inbox_;
    socket_state* listener_ = nullptr; ///< this context's own, or the one that accepts for all
    socket_file file_;
    std::vector<loose_socket> handed_; ///< the oldest first
    bool hands_out_ = false;
    bool no_more_ = false; ///< who accepts has closed the listener
    bool left_ = false;    ///< takes nothing more

  public:
    server sessions; ///< the first to be destroyed: its sessions report their end here
};

} // namespace detail
} // namespace plait::inline v1
