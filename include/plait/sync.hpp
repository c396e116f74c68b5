#pragma once
/// Between the tasks of one context: `event`, `mutex` and `channel<T>`. None of them blocks a thread.
///
///     plait::channel<job> jobs(16);                                // the 17th send waits
///     while (auto next = co_await jobs.receive()) work(*next);     // until it is closed and empty
///     auto held = co_await files.lock();                           // a mutex; unlocked when `held` goes
///     auto woken = co_await started.wait();                        // an event; until started.set()
///
/// What holds for all three:
/// - They belong to the tasks of one context; another thread posts to that context (`io_context::post`).
/// - Who waits first is served first, and nobody who comes later overtakes. The loop resumes who is served, in that
///   order: set(), close(), unlocking and sending return before anybody else has run. What is there already
///   completes at once, without suspending. A wait allocates nothing.
/// - A cancelled wait ends with errc::canceled and leaves no trace. Who has been served before the cancellation came
///   keeps what he got: the lock is his, the value is delivered. When a coroutine is destroyed while it waits, or
///   between being served and being resumed, whatever it was given goes to the next, and values keep their order.
/// - Destroying one of the three ends the waits on it as canceled; the tasks must not use it afterwards.

#include <plait/detail/ring.hpp>
#include <plait/detail/sync_wait.hpp>
#include <plait/task.hpp>

#include <cstddef>
#include <utility>

namespace plait::inline v1 {

// --- event -----------------------------------------------------------------------------------------------------

/// A flag that tasks wait for. It stays set, for those who come later, until reset().
class PLAIT_API event {
  public:
    /// What wait() gives.
    class [[nodiscard]] wait_awaitable {
      public:
        using plait_awaitable_tag = void;

        bool await_ready() const noexcept { return false; }
        template <detail::environment_promise P>
        bool await_suspend(std::coroutine_handle<P> waiter) {
            return event_->start(wait_, waiter, waiter.promise().plait_environment());
        }
        io_result<void> await_resume() noexcept { return wait_.take(); }

      private:
        friend event;
        explicit wait_awaitable(event& of) noexcept : event_(&of), wait_(detail::event_wait) {}
        event* event_;
        detail::sync_wait wait_;
    };

    event() noexcept = default;
    event(const event&) = delete;
    event& operator=(const event&) = delete;
    ~event();

    /// Completes when the event is set. One that a set() has reached completes although a reset() follows. Fails with
    /// errc::canceled only.
    wait_awaitable wait() noexcept { return wait_awaitable(*this); }

    /// Serves everybody who waits, and whoever will wait until reset().
    void set() noexcept;
    /// From now on wait() waits again.
    void reset() noexcept { set_ = false; }
    /// Whether wait() would complete at once.
    bool is_set() const noexcept { return set_; }

  private:
    bool start(detail::sync_wait& wait, std::coroutine_handle<> waiter, detail::environment& env);

    detail::sync_queue waiting_;
    detail::loop* context_ = nullptr;
    bool set_ = false;
};

// --- mutex -----------------------------------------------------------------------------------------------------

/// Keeps other tasks out across a co_await. (Between two of them a task is alone anyway.) Not recursive: a task that
/// locks twice waits for itself.
class PLAIT_API mutex {
  public:
    /// Holds the lock and gives it back in its destructor. Empty when default-constructed or moved from.
    class [[nodiscard]] guard {
      public:
        guard() noexcept = default;
        guard(guard&& other) noexcept { take(other); }
        guard& operator=(guard&& other) noexcept {
            if (this != &other) {
                unlock();
                take(other);
            }
            return *this;
        }
        ~guard() { unlock(); }

        /// Whether it holds the lock.
        explicit operator bool() const noexcept { return mutex_ != nullptr; }

        /// Hands the lock to the task that has waited longest. Does nothing when empty.
        void unlock() noexcept {
            if (mutex* held = std::exchange(mutex_, nullptr)) held->pass_on();
        }

      private:
        friend mutex;
        explicit guard(mutex& held) noexcept : mutex_(&held) { held.holder_ = this; }
        void take(guard& other) noexcept {
            mutex_ = std::exchange(other.mutex_, nullptr);
            if (mutex_) mutex_->holder_ = this;
        }
        mutex* mutex_ = nullptr;
    };

    /// What lock() gives.
    class [[nodiscard]] lock_awaitable {
      public:
        using plait_awaitable_tag = void;

        lock_awaitable(lock_awaitable&&) noexcept = default;
        ~lock_awaitable() {
            if (wait_.served()) mutex_->pass_on();
        }

        bool await_ready() const noexcept { return false; }
        template <detail::environment_promise P>
        bool await_suspend(std::coroutine_handle<P> waiter) {
            return mutex_->start(wait_, waiter, waiter.promise().plait_environment());
        }
        io_result<guard> await_resume() noexcept {
            const bool locked = wait_.served();
            const io_result<void> outcome = wait_.take();
            if (!locked) return io_result<guard>(outcome.raw_status(), 0);
            mutex_->next_ = nullptr;
            return io_result<guard>(guard(*mutex_));
        }

      private:
        friend mutex;
        explicit lock_awaitable(mutex& of) noexcept : mutex_(&of), wait_(detail::mutex_wait) {}
        mutex* mutex_;
        detail::sync_wait wait_;
    };

    mutex() noexcept = default;
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;
    /// A guard that still holds it becomes empty.
    ~mutex();

    /// Completes when the lock is the caller's. Fails with errc::canceled only.
    lock_awaitable lock() noexcept { return lock_awaitable(*this); }

    /// Whether somebody holds the lock, or is about to.
    bool is_locked() const noexcept { return locked_; }

  private:
    bool start(detail::sync_wait& wait, std::coroutine_handle<> waiter, detail::environment& env);
    void pass_on() noexcept;

    detail::sync_queue waiting_;
    detail::loop* context_ = nullptr;
    detail::sync_wait* next_ = nullptr; ///< was given the lock, and has not been resumed yet
    guard* holder_ = nullptr;           ///< while it is locked and next_ is not set
    bool locked_ = false;
};

// --- channel ---------------------------------------------------------------------------------------------------

/// A queue of at most `capacity` values between tasks: a sender waits while it is full, a receiver while it is empty.
/// With capacity 0 a send waits until somebody receives. Any number of tasks may send and receive. Moving a `T` must
/// not throw.
template <class T>
class channel {
    static_assert(alignof(T) <= alignof(std::max_align_t),
                  "coroutine frames hold nothing that is aligned beyond that; send a std::unique_ptr to it");

    struct send_wait : detail::sync_wait {
        explicit send_wait(T&& what) noexcept : sync_wait(detail::send_wait), value(std::move(what)) {}
        send_wait(send_wait&&) noexcept = default;
        T value;
    };

  public:
    /// What it carries.
    using value_type = T;

    /// What send() gives; it holds the value until it is sent.
    class [[nodiscard]] send_awaitable {
      public:
        using plait_awaitable_tag = void;

        bool await_ready() const noexcept { return false; }
        template <detail::environment_promise P>
        bool await_suspend(std::coroutine_handle<P> waiter) {
            return channel_->start_send(wait_, waiter, waiter.promise().plait_environment());
        }
        io_result<void> await_resume() noexcept { return wait_.take(); }

        /// The value, which is still here after a send that failed:
        ///
        ///     auto sending = jobs.send(std::move(next));
        ///     auto sent = co_await sending;
        ///     if (!sent) next = std::move(sending.value());
        T& value() noexcept { return wait_.value; }

      private:
        friend channel;
        send_awaitable(channel& to, T&& value) noexcept : channel_(&to), wait_(std::move(value)) {}
        channel* channel_;
        send_wait wait_;
    };

    /// What receive() gives.
    class [[nodiscard]] receive_awaitable {
      public:
        using plait_awaitable_tag = void;

        receive_awaitable(receive_awaitable&&) noexcept = default;
        ~receive_awaitable() {
            if (wait_.served()) channel_->give_back(wait_);
        }

        bool await_ready() const noexcept { return false; }
        template <detail::environment_promise P>
        bool await_suspend(std::coroutine_handle<P> waiter) {
            return channel_->start_receive(wait_, waiter, waiter.promise().plait_environment());
        }
        io_result<T> await_resume() noexcept {
            const bool there = wait_.served();
            const io_result<void> outcome = wait_.take();
            if (!there) return io_result<T>(outcome.raw_status(), 0);
            return io_result<T>(channel_->take(wait_));
        }

      private:
        friend channel;
        explicit receive_awaitable(channel& from) noexcept : channel_(&from), wait_(detail::receive_wait) {}
        channel* channel_;
        detail::sync_wait wait_;
    };

    /// An empty channel for `capacity` values.
    explicit channel(std::size_t capacity) noexcept : capacity_(capacity) {}
    channel(const channel&) = delete;
    channel& operator=(const channel&) = delete;
    /// Values that nobody received are destroyed.
    ~channel() {
        detail::fail_all(senders_, errc::canceled);
        detail::fail_all(receivers_, errc::canceled);
        detail::fail_all(served_, errc::canceled);
    }

    /// Completes when the value is in the channel, or with capacity 0 when a receiver was found for it. Fails with
    /// errc::closed and errc::canceled; then the value was not sent, and is in the awaitable still.
    send_awaitable send(T value) noexcept { return send_awaitable(*this, std::move(value)); }

    /// Sends now or not at all: false when the channel is full, or closed, or when with capacity 0 nobody waits for a
    /// value. `value` is moved from only if it was sent. (For one who must not wait for a slow receiver.)
    bool try_send(T&& value) {
        if (closed_ || !has_room()) return false;
        values_.reserve_one();
        values_.push_back(std::move(value));
        settle();
        return true;
    }
    bool try_send(const T& value) {
        if (closed_ || !has_room()) return false; // before it is copied
        return try_send(T(value));
    }

    /// Completes when there is a value; gives the oldest. Fails with errc::end_of_stream when the channel is closed and
    /// empty, and with errc::canceled.
    receive_awaitable receive() noexcept { return receive_awaitable(*this); }

    /// No more is sent: sends fail with errc::closed, those that wait included. What is in the channel can still be
    /// received; after that, receives end with errc::end_of_stream. Idempotent.
    void close() noexcept {
        closed_ = true;
        settle();
    }
    /// Whether close() was called.
    bool is_closed() const noexcept { return closed_; }

    /// Values in the channel; one that was promised to a receiver counts until that is resumed.
    std::size_t size() const noexcept { return values_.size(); }
    /// Values for which there is room.
    std::size_t capacity() const noexcept { return capacity_; }

  private:
    bool has_room() const noexcept {
        if (capacity_ == 0) return values_.size() == 0 && !receivers_.empty();
        return values_.size() < capacity_;
    }
    /// Values alone belong to no context.
    bool unused() const noexcept { return senders_.empty() && receivers_.empty() && served_.empty(); }

    bool start_send(send_wait& wait, std::coroutine_handle<> waiter, detail::environment& env) {
        if (!closed_ && has_room()) values_.reserve_one(); // before the wait begins, because this may throw
        if (!wait.begin(waiter, env, context_, unused())) return false;
        senders_.push_back(wait);
        settle();
        return wait.suspends();
    }

    bool start_receive(detail::sync_wait& wait, std::coroutine_handle<> waiter, detail::environment& env) {
        if (capacity_ == 0) values_.reserve_one(); // for a value that waits with its sender
        if (!wait.begin(waiter, env, context_, unused())) return false;
        receivers_.push_back(wait);
        settle();
        // Those who were served before this one take the older values; it is resumed after them.
        if (wait.served() && &served_.front() != &wait) return true;
        return wait.suspends();
    }

    /// A value stays in the channel until the receiver that was promised it is resumed. So if that one is destroyed
    /// instead, nothing has to be put back, and the order of the values is the order of the sends.
    T take(detail::sync_wait& receiver) noexcept {
        receiver.leave_queue();
        --promised_;
        T value = values_.pop_front();
        settle();
        return value;
    }
    void give_back(detail::sync_wait& receiver) noexcept {
        receiver.leave_queue();
        --promised_;
        settle();
    }

    /// After every change: moves values over from the senders, promises them to receivers, and ends the waits that a
    /// closed channel will never serve.
    void settle() noexcept {
        if (closed_) detail::fail_all(senders_, errc::closed);
        while (!senders_.empty() && has_room()) {
            auto& sender = static_cast<send_wait&>(senders_.pop_front());
            values_.push_back(std::move(sender.value));
            sender.complete();
        }
        while (promised_ < values_.size() && !receivers_.empty()) {
            detail::sync_wait& receiver = receivers_.pop_front();
            ++promised_;
            served_.push_back(receiver);
            receiver.serve();
        }
        if (closed_ && values_.size() == 0) detail::fail_all(receivers_, errc::end_of_stream);
    }

    std::size_t capacity_;
    std::size_t promised_ = 0; ///< how many are in served_
    detail::ring<T> values_;
    detail::sync_queue senders_;
    detail::sync_queue receivers_; ///< those that nothing was promised to
    detail::sync_queue served_;    ///< to be resumed; each takes the oldest value then
    detail::loop* context_ = nullptr;
    bool closed_ = false;
};

} // namespace plait::inline v1
