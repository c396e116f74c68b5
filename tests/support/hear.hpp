#pragma once
/// A wait for a signal that comes.

#include <plait/signal.hpp>
#include <plait/task_group.hpp>

#include "support/streams.hpp"
#include "support/system.hpp"

namespace support {

/// Waits, and sends itself the signal once it does.
inline plait::task<int> hear(plait::signal_list signals, int sent) {
    int heard = 0;
    auto waiting = [&]() -> plait::task<> {
        heard = (co_await plait::wait_for_signal(signals)).value_or(-1);
    };
    auto sending = [&]() -> plait::task<> {
        co_await turns(3);
        send_signal(sent);
    };
    plait::task_group group;
    group.spawn(waiting);
    group.spawn(sending);
    co_await group.join();
    co_return heard;
}

} // namespace support
