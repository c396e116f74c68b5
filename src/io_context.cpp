#include <plait/io_context.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {

std::string_view to_string(backend b) noexcept {
    switch (b) {
    case backend::automatic: return "automatic";
    case backend::io_uring: return "io_uring";
    case backend::epoll: return "epoll";
    case backend::iocp: return "iocp";
    case backend::simulated: return "simulated";
    }
    return "unknown";
}

io_context::io_context(context_options options)
    : loop_(std::make_unique<detail::loop>(*this, std::move(options))), mailbox_(loop_->box) {}

io_context::~io_context() = default;

void io_context::run_root(task<> root) { loop_->run(std::move(root)); }

void io_context::request_drain() noexcept { mailbox_->request(mailbox_->drain_requested); }
void io_context::request_stop() noexcept { mailbox_->request(mailbox_->stop_requested); }

plait::backend io_context::backend() const noexcept { return loop_->system->backend(); }
std::string_view io_context::backend_reason() const noexcept { return loop_->reason; }
steady_time io_context::now() const noexcept { return loop_->system->now(); }
struct metrics io_context::metrics() const noexcept {
    return loop_->metrics();
}

io_context& this_context::await_resume() const noexcept { return loop_->facade; }

namespace detail {
namespace {

void cancel_nothing(pending&) noexcept {}
constexpr pending_type yield_type{"yield", cancel_nothing};

} // namespace
} // namespace detail

yield::yield() noexcept : wait_(detail::yield_type) {}

} // namespace plait::inline v1
