#include <plait/unix.hpp>

#include <plait/time.hpp>

#include "src/loop.hpp"
#include "src/socket_options.hpp"

#include <algorithm>
#include <chrono>

namespace plait::inline v1 {
namespace {

using detail::get;
using detail::set;
using detail::socket_option;
using detail::status;
using namespace std::chrono_literals;

/// The pauses between two tries where no system tells when the next one is worth it.
class pauses {
  public:
    auto next() noexcept {
        return sleep_for(std::exchange(length_, std::min<steady_duration>(length_ * 2, 20ms)));
    }

  private:
    steady_duration length_ = 500us;
};

/// In a cancelled scope nothing is begun.
errc canceled(detail::environment& env) noexcept {
    env.cancel->notice();
    return errc::canceled;
}

bool full(const status& result) noexcept { return result.code() == std::errc::operation_would_block; }

io_result<unix_path> path_of(const detail::socket_state* state, bool remote) noexcept {
    if (!state || !state->context) return {detail::not_open(), 0};
    unix_path name;
    const status result = state->context->system->unix_name(state->handle, remote, name);
    if (!result.ok()) return {result, 0};
    return name;
}

} // namespace

namespace detail {

void socket_file::remove() noexcept {
    if (!path_.is_unnamed()) remove_socket_file(std::exchange(path_, unix_path()), identity_);
}

} // namespace detail

// --- streams -------------------------------------------------------------------------------------------------

task<io_result<unix_stream>> unix_stream::connect(unix_path peer) {
    detail::environment& env = co_await detail::this_environment();
    if (!peer.valid()) co_return peer.error();
    if (co_await stop_requested()) co_return canceled(env);
    detail::loop& context = *env.context;
    native_socket handle = detail::no_socket;
    detail::socket_file none;
    const status opened =
        context.system->open_unix(detail::socket_kind::stream, unix_path(), 0, handle, none);
    if (!opened.ok()) co_return io_result<unix_stream>(opened, 0);
    unix_stream stream(context.adopt(handle, detail::socket_kind::stream));
    pauses pause;
    for (;;) {
        const status connected = context.system->connect_unix(handle, peer);
        if (connected.ok()) break;
        if (!full(connected)) co_return io_result<unix_stream>(connected, 0);
        auto slept = co_await pause.next(); // the backlog is full
        if (!slept) co_return slept.error();
    }
    ++context.system->metrics().connects;
    co_return std::move(stream);
}

task<io_result<unix_stream>> unix_stream::from_native_handle(native_socket handle) {
    auto adopted = co_await detail::adopt_handle(handle, detail::socket_kind::stream, true);
    if (!adopted) co_return io_result<unix_stream>(adopted.raw_status(), 0);
    co_return unix_stream(*adopted);
}

io_result<unix_path> unix_stream::local_path() const noexcept { return path_of(state_, false); }
io_result<unix_path> unix_stream::remote_path() const noexcept { return path_of(state_, true); }

io_result<void> unix_stream::set_receive_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::receive_buffer, bytes);
}
io_result<int> unix_stream::receive_buffer_size() const noexcept {
    return get(state_, socket_option::receive_buffer);
}
io_result<void> unix_stream::set_send_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::send_buffer, bytes);
}
io_result<int> unix_stream::send_buffer_size() const noexcept {
    return get(state_, socket_option::send_buffer);
}

io_result<unix_stream> unix_accept_awaitable::await_resume() noexcept {
    auto accepted = take();
    if (!accepted) return {accepted.raw_status(), 0};
    return unix_stream(*accepted);
}

task<io_result<unix_listener>> unix_listener::bind(unix_path local, int backlog) {
    detail::environment& env = co_await detail::this_environment();
    if (!local.valid()) co_return local.error();
    if (local.is_unnamed()) co_return std::make_error_code(std::errc::invalid_argument);
    detail::loop& context = *env.context;
    native_socket handle = detail::no_socket;
    detail::socket_file file;
    const status opened =
        context.system->open_unix(detail::socket_kind::listener, local, backlog, handle, file);
    if (!opened.ok()) co_return io_result<unix_listener>(opened, 0);
    co_return unix_listener(context.adopt(handle, detail::socket_kind::listener), std::move(file));
}

task<io_result<unix_listener>> unix_listener::from_native_handle(native_socket handle) {
    auto adopted = co_await detail::adopt_handle(handle, detail::socket_kind::listener, true);
    if (!adopted) co_return io_result<unix_listener>(adopted.raw_status(), 0);
    co_return unix_listener(*adopted, detail::socket_file());
}

task<io_result<native_socket>> unix_listener::release() {
    auto released = co_await detail::release_handle(state_);
    if (released) file_.leave();
    co_return released;
}

io_result<unix_path> unix_listener::local_path() const noexcept { return path_of(state_, false); }

task<io_result<void>> unix_listener::close() {
    file_.remove(); // while it is certainly ours
    co_return co_await detail::close_at_once(state_);
}

// --- datagrams -----------------------------------------------------------------------------------------------

task<io_result<unix_datagram>> unix_datagram::bind(unix_path local) {
    detail::environment& env = co_await detail::this_environment();
    if (!local.valid()) co_return local.error();
    detail::loop& context = *env.context;
    native_socket handle = detail::no_socket;
    detail::socket_file file;
    const status opened = context.system->open_unix(detail::socket_kind::datagram, local, 0, handle, file);
    if (!opened.ok()) co_return io_result<unix_datagram>(opened, 0);
    co_return unix_datagram(context.adopt(handle, detail::socket_kind::datagram), std::move(file));
}

task<io_result<std::size_t>> unix_datagram::send_to(std::span<const std::byte> bytes, unix_path to) {
    pauses pause;
    for (;;) {
        auto sent = co_await send_to_awaitable<unix_path>(send_op(), bytes, to);
        if (sent || !full(sent.raw_status())) co_return sent;
        auto slept = co_await pause.next(); // the receiver's queue is full
        if (!slept) co_return slept.error();
    }
}

task<io_result<void>> unix_datagram::connect(unix_path peer) {
    if (!state_ || !state_->context) co_return io_result<void>(detail::not_open(), 0);
    if (!peer.valid()) co_return peer.error();
    co_return io_result<void>(state_->context->system->connect_unix(state_->handle, peer), 0);
}

task<io_result<unix_datagram>> unix_datagram::from_native_handle(native_socket handle) {
    auto adopted = co_await detail::adopt_handle(handle, detail::socket_kind::datagram, true);
    if (!adopted) co_return io_result<unix_datagram>(adopted.raw_status(), 0);
    co_return unix_datagram(*adopted, detail::socket_file());
}

task<io_result<native_socket>> unix_datagram::release() {
    auto released = co_await detail::release_handle(state_);
    if (released) file_.leave();
    co_return released;
}

io_result<unix_path> unix_datagram::local_path() const noexcept { return path_of(state_, false); }
io_result<unix_path> unix_datagram::remote_path() const noexcept { return path_of(state_, true); }

io_result<void> unix_datagram::set_receive_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::receive_buffer, bytes);
}
io_result<int> unix_datagram::receive_buffer_size() const noexcept {
    return get(state_, socket_option::receive_buffer);
}
io_result<void> unix_datagram::set_send_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::send_buffer, bytes);
}
io_result<int> unix_datagram::send_buffer_size() const noexcept {
    return get(state_, socket_option::send_buffer);
}

task<io_result<void>> unix_datagram::close() {
    file_.remove(); // while it is certainly ours
    co_return co_await detail::close_at_once(state_);
}

} // namespace plait::inline v1
