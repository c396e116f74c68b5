#include "src/stop_hook.hpp"

#include <optional>
#include <thread>
#include <utility>

namespace plait::inline v1 {
namespace detail {

/// The hook deletes it, or, once the token is stopped, the callback does.
struct stop_hook::registration {
    registration(std::shared_ptr<std::atomic<phase>> shared, std::function<void()> what)
        : now(std::move(shared)), action(std::move(what)) {}

    void fire() {
        if (std::this_thread::get_id() == maker && now->load() == phase::making)
            return action(); // stopped before; this is its constructor
        while (now->load() == phase::making) std::this_thread::yield();
        if (now->exchange(phase::over) == phase::over)
            return; // the hook is going, and waits for this to return
        const std::function<void()> last = std::move(action);
        last();
        delete this; // which a callback may do: then nobody waits for its end
    }

    struct callback {
        registration* self;
        void operator()() const { self->fire(); }
    };

    const std::shared_ptr<std::atomic<phase>> now;
    std::function<void()> action;
    const std::thread::id maker = std::this_thread::get_id();
    std::optional<std::stop_callback<callback>> registered;
};

stop_hook::stop_hook(std::stop_token token, std::function<void()> action)
    : now_(std::make_shared<std::atomic<phase>>(phase::making)),
      registered_(new registration(now_, std::move(action))) {
    registered_->registered.emplace(std::move(token), registration::callback{registered_});
    now_->store(phase::armed);
}

stop_hook::~stop_hook() {
    if (now_->exchange(phase::over) == phase::armed) delete registered_;
}

} // namespace detail
} // namespace plait::inline v1
