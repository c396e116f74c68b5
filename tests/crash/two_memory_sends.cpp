// expect: plait: two operations of one direction on a stream at once
#include <plait/io_context.hpp>
#include <plait/stream.hpp>
#include <plait/task_group.hpp>

#include <functional>

namespace {

plait::task<> send(plait::memory_stream& to) { static_cast<void>(co_await to.send_all("more than fits")); }

plait::task<> send_twice() {
    auto ends = plait::memory_stream_pair(4);
    plait::task_group group;
    group.spawn(send, std::ref(ends.first));
    group.spawn(send, std::ref(ends.first));
    co_await group.join();
}

} // namespace

int main() { plait::run(send_twice()); }
