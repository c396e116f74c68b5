#pragma once
/// System calls that fail. A test that includes this has libc's functions, and liburing's, replaced by forwarding ones.
///
///     support::faults faults;                            // counts the calls of this thread
///     faults.fail(support::call::accept, 1, EMFILE);     // the next one fails
///
/// io_uring: liburing makes its system calls by itself, where nothing can be put in between, so its functions are
/// replaced, and an entry that is to fail becomes a NOP that completes with the error.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace support {

/// What can fail. The entry of a ring counts as the call it stands for.
enum class call : std::uint8_t {
    socket,
    set_option,
    bind,
    listen,
    connect,
    accept,
    receive,
    send,
    shutdown,
    event_descriptor,
    wait,           ///< epoll_wait, epoll_pwait2; io_uring_enter in all its forms
    wait_precisely, ///< epoll_pwait2 alone, before it counts as a wait
    epoll_create,
    epoll_ctl,
    ring,        ///< io_uring_setup
    buffer_ring, ///< registering it
    wake_up,     ///< the entry that waits for other threads
};
inline constexpr std::size_t call_kinds = static_cast<std::size_t>(call::wake_up) + 1;

const char* name_of(call which) noexcept;

/// One at a time on a thread; calls of other threads stay what they are.
class faults {
  public:
    faults() noexcept;
    faults(const faults&) = delete;
    faults& operator=(const faults&) = delete;
    ~faults();

    /// Whether entries of a ring can be made to fail: by kernels from 6.10 on.
    static bool can_fail_entries() noexcept;

    /// The n-th call from now on, the next being the first, does nothing but fail.
    void fail(call which, std::size_t n, int error) noexcept;
    /// Every call that may be interrupted is, once, before it succeeds.
    void interrupt_all() noexcept { interrupting_ = true; }
    /// Sends and receives move 1 to `most` bytes, those into a pool's buffers on io_uring excepted.
    void cut(std::size_t most) noexcept { most_ = most; }

    std::size_t calls(call which) const noexcept { return counts_[static_cast<std::size_t>(which)]; }
    /// Calls that failed on purpose.
    std::size_t failed() const noexcept { return failed_; }
    /// How often a ring was entered while completions were waiting for room in it.
    std::size_t overflows() const noexcept { return overflows_; }

    // For the replaced functions.
    static faults* armed() noexcept;
    /// Counts a call; the error that it has to fail with, or 0.
    int next(call which) noexcept;
    bool cuts() const noexcept { return most_ != 0; }
    std::size_t shortened(std::size_t size) noexcept;
    void overflowed() noexcept { ++overflows_; }

  private:
    std::array<std::size_t, call_kinds> counts_{};
    call which_ = call::socket;
    std::size_t at_ = 0;
    int error_ = 0;
    std::size_t failed_ = 0;
    std::size_t overflows_ = 0;
    std::size_t most_ = 0;
    std::size_t turn_ = 0;
    bool interrupting_ = false;
};

} // namespace support
