#include <plait/stream.hpp>

#include "src/loop.hpp"

#include <algorithm>
#include <cstring>

namespace plait::inline v1 {
namespace detail {

/// A ring of bytes. At most one task waits to receive and one to send.
struct memory_pipe {
    explicit memory_pipe(std::size_t size) : ring(std::max<std::size_t>(size, 1)) {}

    /// Copies between the ring and flat memory, around the ring's end.
    std::size_t take(std::span<std::byte> into) noexcept {
        const std::size_t count = std::min(into.size(), used);
        const std::size_t before_end = std::min(count, ring.size() - first);
        std::memcpy(into.data(), ring.data() + first, before_end);
        if (count > before_end) std::memcpy(into.data() + before_end, ring.data(), count - before_end);
        first = (first + count) % ring.size();
        used -= count;
        return count;
    }
    std::size_t put(std::span<const std::byte> from) noexcept {
        const std::size_t count = std::min(from.size(), ring.size() - used);
        const std::size_t at = (first + used) % ring.size();
        const std::size_t before_end = std::min(count, ring.size() - at);
        std::memcpy(ring.data() + at, from.data(), before_end);
        if (count > before_end) std::memcpy(ring.data(), from.data() + before_end, count - before_end);
        used += count;
        return count;
    }

    static void wake(memory_awaitable*& who) noexcept {
        if (!who || !who->try_now()) return;
        make_ready(std::exchange(who, nullptr)->wait_);
    }
    void changed() noexcept {
        wake(receiver);
        wake(sender);
        wake(receiver); // a send that was just taken may have something for it
    }

    std::vector<std::byte> ring;
    std::size_t first = 0;
    std::size_t used = 0;
    bool writer_gone = false; ///< no more comes
    bool reader_gone = false; ///< nobody takes it
    memory_awaitable* receiver = nullptr;
    memory_awaitable* sender = nullptr;
};

const pending_type memory_awaitable::receive_type{"recv from a memory stream", &memory_awaitable::cancel};
const pending_type memory_awaitable::send_type{"send to a memory stream", &memory_awaitable::cancel};

memory_awaitable::memory_awaitable(std::shared_ptr<memory_pipe> pipe, std::span<std::byte> into,
                                   std::span<const std::byte> from, bool receiving) noexcept
    : pipe_(std::move(pipe)), into_(into), from_(from), receiving_(receiving),
      wait_(receiving ? receive_type : send_type) {}

memory_awaitable::~memory_awaitable() {
    if (!started_ || !pipe_) return;
    PLAIT_ASSERT(pipe_, "await_ready() was passed over: await a memory stream with co_await only");
    memory_awaitable*& slot = receiving_ ? pipe_->receiver : pipe_->sender;
    if (slot == this) slot = nullptr;
}

/// True when the outcome is known.
bool memory_awaitable::try_now() noexcept {
    if (receiving_) {
        if (into_.empty()) return true;
        moved_ = pipe_->take(into_);
        if (moved_ > 0) return true;
        if (!pipe_->writer_gone) return false;
        failure_ = errc::end_of_stream;
        return true;
    }
    if (pipe_->reader_gone || pipe_->writer_gone) {
        failure_ = std::make_error_code(std::errc::broken_pipe);
        return true;
    }
    if (from_.empty()) return true;
    moved_ = pipe_->put(from_);
    return moved_ > 0;
}

bool memory_awaitable::await_ready() noexcept {
    if (pipe_) return false;
    failure_ = std::make_error_code(std::errc::bad_file_descriptor);
    return true;
}

bool memory_awaitable::start(std::coroutine_handle<> waiter, environment& env) {
    memory_awaitable*& slot = receiving_ ? pipe_->receiver : pipe_->sender;
    PLAIT_ASSERT(!slot,
                 "two operations of one direction on a stream at once; one task may receive while another "
                 "sends, but each direction has one task at a time");
    if (!begin_wait(wait_, waiter, env)) {
        failure_ = errc::canceled;
        return false;
    }
    if (try_now()) {
        wait_.unlink();
        pipe_->changed();
        return false;
    }
    started_ = true;
    wait_.owner = this;
    slot = this;
    return true;
}

void memory_awaitable::cancel(pending& wait) noexcept {
    memory_awaitable& self = *static_cast<waiting&>(wait).owner;
    self.failure_ = errc::canceled;
    (self.receiving_ ? self.pipe_->receiver : self.pipe_->sender) = nullptr;
    wait.waiting->cancel->notice();
    make_ready(wait);
}

io_result<std::size_t> memory_awaitable::await_resume() noexcept {
    if (std::exchange(started_, false) && failure_.ok()) pipe_->changed();
    if (!failure_.ok()) return {failure_, 0};
    return moved_;
}

} // namespace detail

memory_stream& memory_stream::operator=(memory_stream&& other) noexcept {
    if (this != &other) {
        end();
        in_ = std::move(other.in_);
        out_ = std::move(other.out_);
    }
    return *this;
}

memory_stream::~memory_stream() { end(); }

void memory_stream::end() noexcept {
    if (out_) {
        if (out_->sender) out_->sender->cancel_now();
        out_->writer_gone = true;
        out_->changed();
    }
    if (in_) {
        if (in_->receiver) in_->receiver->cancel_now();
        in_->reader_gone = true;
        in_->changed();
    }
    out_.reset();
    in_.reset();
}

detail::memory_awaitable memory_stream::recv(std::span<std::byte> buffer) noexcept {
    return {in_, buffer, {}, true};
}

detail::memory_awaitable memory_stream::send(std::span<const std::byte> bytes) noexcept {
    return {out_, {}, bytes, false};
}

namespace {

/// A buffer for one lease.
struct lease_buffer : detail::buffer_block {
    static constexpr std::size_t capacity = 4096;
    std::array<std::byte, capacity> bytes;
};

} // namespace

task<io_result<lease>> memory_stream::recv() {
    auto buffer = std::make_unique<lease_buffer>();
    buffer->release = [](detail::buffer_block& block) noexcept { delete static_cast<lease_buffer*>(&block); };
    auto received = co_await recv(std::span<std::byte>(buffer->bytes));
    if (!received) co_return io_result<lease>(received.raw_status(), 0);
    std::byte* data = buffer->bytes.data();
    co_return io_result<lease>(lease(data, *received, buffer.release()), *received);
}

task<io_result<std::size_t>> memory_stream::recv_exactly(std::span<std::byte> buffer) {
    return plait::recv_exactly(*this, buffer);
}

task<io_result<std::size_t>> memory_stream::send_all(std::span<const std::byte> bytes) {
    return plait::send_all(*this, bytes);
}

task<io_result<std::size_t>> memory_stream::send_all(std::span<const std::span<const std::byte>> pieces) {
    return plait::send_all(*this, pieces);
}

task<io_result<void>> memory_stream::shutdown_send() {
    if (!out_) co_return io_result<void>(std::make_error_code(std::errc::bad_file_descriptor));
    out_->writer_gone = true;
    out_->changed();
    co_return io_result<void>();
}

task<io_result<void>> memory_stream::close() {
    end();
    co_return io_result<void>();
}

io_result<endpoint> memory_stream::local_endpoint() const noexcept {
    return std::make_error_code(std::errc::not_supported);
}
io_result<endpoint> memory_stream::remote_endpoint() const noexcept {
    return std::make_error_code(std::errc::not_supported);
}

std::pair<memory_stream, memory_stream> memory_stream_pair(std::size_t capacity) {
    auto forth = std::make_shared<detail::memory_pipe>(capacity);
    auto back = std::make_shared<detail::memory_pipe>(capacity);
    std::pair<memory_stream, memory_stream> ends;
    ends.first.out_ = ends.second.in_ = forth;
    ends.first.in_ = ends.second.out_ = back;
    return ends;
}

} // namespace plait::inline v1
