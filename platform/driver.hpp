#pragma once
/// All that a platform supplies. A driver turns operations into completions; it never resumes a coroutine, takes
/// no locks and belongs to one thread. platform/README.md tells how to add one.
///
/// The life of an operation: start() takes it, and either completes it at once or answers later, from inside
/// wait(), by complete(). cancel() is a request: the completion still comes, as cancelled or as done. Memory of
/// an operation, and its buffers, stay valid until then; so a driver may hand their addresses to the system.

#include <plait/detail/socket_file.hpp>
#include <plait/detail/socket_state.hpp>
#include <plait/io_context.hpp>

#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plait::inline v1 {

class listen_options;
class udp_options;

namespace detail {

/// Wakes a driver's wait() from any thread, also from a signal handler. Outlives the driver.
class waker {
  public:
    virtual ~waker() = default;
    virtual void wake() noexcept = 0;
};

/// Options of sockets, by the names that every system shares.
enum class socket_option : std::uint8_t {
    no_delay,            ///< 0 or 1
    keep_alive,          ///< 0 or 1
    keep_alive_idle,     ///< seconds
    keep_alive_interval, ///< seconds
    keep_alive_count,    ///< probes
    linger,              ///< seconds, or -1 for off
    receive_buffer,      ///< bytes
    send_buffer,         ///< bytes
    user_timeout,        ///< milliseconds
    v6_only,             ///< 0 or 1
    reuse_address,       ///< 0 or 1
    reuse_port,          ///< 0 or 1
    broadcast,           ///< 0 or 1
    multicast_ttl,       ///< hops
    multicast_loop,      ///< 0 or 1
    multicast_interface, ///< an interface's index; 0: the system chooses
};

class driver {
  public:
    driver() = default;
    driver(const driver&) = delete;
    driver& operator=(const driver&) = delete;
    virtual ~driver() = default;

    virtual plait::backend backend() const noexcept = 0;

    // --- the loop's turn -------------------------------------------------------------------------------

    /// The calling thread runs the loop from now on.
    virtual void enter_thread() = 0;

    /// Hands everything started so far to the system, waits until something completes, `deadline` passes or the
    /// waker is called, and collects all completions. A deadline in the past collects without waiting.
    virtual void wait(steady_time deadline) = 0;

    virtual steady_time now() const noexcept { return std::chrono::steady_clock::now(); }
    virtual std::shared_ptr<waker> get_waker() = 0;

    // --- operations ------------------------------------------------------------------------------------

    /// True: completed at once, with `result` and what the kind brings. False: in flight. `accept`, `connect`,
    /// `receive`, `lease` and `send` report transferred bytes of this start only, by finish(). At the end of the stream
    /// a receive finishes with errc::end_of_stream. A `send_to` a path finishes with would_block where the receiver's
    /// queue is full: no system tells when it has room. A `receive_from` fills its envelope; `receive_from` and
    /// `send_to` move one datagram, which may be empty. A `lease` sets data, size and block. With `dont_wait` nothing
    /// to receive or accept is would_block.
    virtual bool start(operation& op) = 0;

    /// Requests the end of an operation in flight, as errc::canceled. Bytes that were already received are
    /// either delivered by it, or kept for the socket's next receive.
    virtual void cancel(operation& op) noexcept = 0;

    // --- sockets ---------------------------------------------------------------------------------------

    virtual status open_listener(const endpoint& local, const listen_options& options,
                                 native_socket& out) = 0;
    virtual status open_stream(const endpoint& peer, native_socket& out) = 0;

    /// Whether several listeners may share a port, and the system spreads connections over them. They are opened with
    /// reuse_port; the first one without, and is given the option afterwards.
    virtual bool shares_ports() const noexcept { return false; }

    /// Gives a socket that another driver of this process has made the mode that this one needs.
    virtual status prepare(native_socket) noexcept { return {}; }

    /// Whether a socket made elsewhere is what the caller takes it for: a connected stream, a listener, a datagram
    /// socket, and a Unix socket or not. If so it gets what this driver's own sockets have; attach() comes next.
    virtual status inspect(native_socket, socket_kind, bool /*of_unix*/) noexcept {
        return std::make_error_code(std::errc::operation_not_supported);
    }

    /// Ends what the system does for a socket on which no operation is in flight. operation_would_block: it has not
    /// ended yet, ask again after the next wait(). device_or_resource_busy: it has, and what was received or accepted
    /// before anybody asked for it waits to be taken. Otherwise, what the socket failed with.
    virtual status quiesce(socket_state&) noexcept {
        return std::make_error_code(std::errc::operation_not_supported);
    }
    /// After that, instead of close(): the handle is somebody else's from now on.
    virtual void forget(socket_state&) noexcept {}

    /// The endpoints of a name that the driver knows itself, a service being its port's number. False: the system is
    /// asked.
    virtual bool look_up(const std::string& /*host*/, const std::string& /*service*/, status& /*result*/,
                         std::vector<endpoint>& /*found*/) {
        return false;
    }

    // Not every driver has datagrams.
    virtual status open_datagram(const endpoint&, const udp_options&, native_socket&) {
        return std::make_error_code(std::errc::operation_not_supported);
    }
    /// The peer that datagrams without an address go to, and alone come from; it waits for nothing.
    virtual status connect_datagram(native_socket, const endpoint&) {
        return std::make_error_code(std::errc::operation_not_supported);
    }
    /// A Unix socket; a listener and a datagram socket are bound to `local` (a datagram socket without a name: to one
    /// that the system finds), a stream is not. A stale file is replaced; `file` is the one that was made.
    virtual status open_unix(socket_kind, const unix_path&, int /*backlog*/, native_socket&, socket_file&) {
        return std::make_error_code(std::errc::address_family_not_supported);
    }
    /// It waits for nothing: would_block says that it must be tried again later.
    virtual status connect_unix(native_socket, const unix_path&) {
        return std::make_error_code(std::errc::address_family_not_supported);
    }
    /// Its own name, or its peer's.
    virtual status unix_name(native_socket, bool /*remote*/, unix_path&) const noexcept {
        return std::make_error_code(std::errc::address_family_not_supported);
    }
    /// Joins or leaves a multicast group on the interface with that index; 0: the system chooses.
    virtual status set_membership(native_socket, const ip_address&, std::uint32_t, bool) {
        return std::make_error_code(std::errc::operation_not_supported);
    }

    /// What the driver keeps for each socket, behind its state block; a multiple of 8 below 64 KiB.
    virtual std::size_t socket_bytes() const noexcept = 0;

    /// Called once for each new state block, before anything is started on it.
    virtual void attach(socket_state& socket) noexcept = 0;

    /// The owner is gone and no operation is in flight. Ends what the system still does for this socket, then
    /// closes it. True: closed. False: later, by closed(socket).
    virtual bool close(socket_state& socket) noexcept = 0;

    /// Closes a socket that never got a state block, an accepted one that nobody wants for instance.
    virtual void close(native_socket handle) noexcept = 0;

    /// The listener must not take in further connections until the next accept is started.
    virtual void pause_accept(socket_state& socket) noexcept = 0;

    /// Tells the peer that nothing more comes, behind what was sent.
    virtual status shutdown_send(socket_state& socket) noexcept = 0;
    virtual status local_endpoint(native_socket handle, endpoint& out) const noexcept = 0;
    virtual status remote_endpoint(native_socket handle, endpoint& out) const noexcept = 0;
    virtual status set_option(native_socket handle, socket_option option, int value) noexcept = 0;
    virtual status get_option(native_socket handle, socket_option option, int& value) const noexcept = 0;
    virtual status set_option(native_socket handle, int level, int name,
                              std::span<const std::byte> value) noexcept = 0;

    // --- the loop's side -------------------------------------------------------------------------------

    /// Completed since they were last taken, in order.
    list<operation>& completed() noexcept { return completed_; }
    list<socket_state>& closed() noexcept { return closed_; }
    struct metrics& metrics() noexcept {
        return metrics_;
    }
    // For a driver that lets no time pass. The loop sets both.
    std::function<bool()> thread_is_awaited; ///< a task waits for a call on another thread
    std::function<void(std::FILE*)> dump;    ///< what all tasks wait for

  protected:
    /// How start() and wait() store an outcome.
    static void finish(operation& op, std::size_t bytes) noexcept {
        op.result = status();
        op.transferred += bytes;
    }
    /// The same for an operation with buffers of the caller's: what is left of them is behind those bytes.
    static void advance(operation& op, std::size_t bytes) noexcept {
        finish(op, bytes);
        if (op.piece_count == 0) {
            op.data += bytes;
            op.size -= bytes;
            return;
        }
        op.size += bytes;
        while (op.piece_count > 0 && op.size >= op.pieces->size()) {
            op.size -= op.pieces->size();
            ++op.pieces;
            --op.piece_count;
        }
    }
    static void finish(operation& op, status failure) noexcept { op.result = failure; }

    /// An operation in flight has its outcome: the loop goes on with it.
    void complete(operation& op) noexcept {
        op.in_flight = false;
        op.unlink();
        completed_.push_back(op);
    }
    void closed(socket_state& socket) noexcept {
        socket.unlink();
        closed_.push_back(socket);
    }

    struct metrics metrics_;

  private:
    list<operation> completed_;
    list<socket_state> closed_;
};

/// Makes the driver that `options` and the environment variable PLAIT_BACKEND ask for; `reason` tells why it is
/// this one. nullptr when none can be had; `reason` says what to do. (backend_choice.hpp has what a platform defines.)
std::unique_ptr<driver> make_driver(const context_options& options, std::string& reason);

// --- what a platform defines besides its drivers ---------------------------------------------------------

/// A literal address, or nothing. "fe80::1%eth0" has the scope of its interface.
std::optional<ip_address> parse_address(std::string_view text) noexcept;
std::string print_address(const ip_address& address);
/// The index of a network interface, 0 if there is none of that name.
std::uint32_t index_of_interface(const char* name) noexcept;

/// The endpoints that the system finds for a host's name and a service, in its order (RFC 6724), as they come: some may
/// be there twice. Blocks, for many seconds perhaps; any thread may call it, also when no driver was made yet.
/// getaddrinfo(3); its errors as errc::host_not_found and those that follow it.
status look_up(const std::string& host, const std::string& service, std::vector<endpoint>& found);

/// Closes a socket of no driver's; any thread.
void close_handle(native_socket handle) noexcept;

/// Removes the file if it is the one with that identity.
void remove_socket_file(const unix_path& path, const file_identity& identity) noexcept;

/// The portable code of a native one (errno, or WSAGetLastError); one that the table lacks stays native.
status native_error(int code) noexcept;

/// Signals, or console control events. Each counts its arrivals since the process started, while watched; what is
/// no signal has none.
/// watch_signal installs the process-wide handler on the first call and calls `wake` at each arrival;
/// unwatch_signal restores the former disposition after the last. Both may be called from any thread.
status watch_signal(int signal, const std::shared_ptr<waker>& wake) noexcept;
void unwatch_signal(int signal, const std::shared_ptr<waker>& wake) noexcept;
std::uint64_t signal_arrivals(int signal) noexcept;
/// Of all signals that are watched; it changes after the count of the one, and before the wake-up.
std::uint64_t signal_arrivals() noexcept;
/// What asks a program for a dump.
extern const int dump_signal;

/// Calls `last` with `what` on the calling thread when it ends, and tells it whether the thread's thread_local objects
/// are still there. Once on each thread. False when the system cannot.
using at_end = void (*)(void* what, bool thread_locals_live) noexcept;
bool at_thread_end(at_end last, void* what) noexcept;

} // namespace detail
} // namespace plait::inline v1
