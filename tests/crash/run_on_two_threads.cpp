// expect: plait: a context is run by another thread than before; make one for each thread
#include <plait/io_context.hpp>

#include <thread>

namespace {

plait::task<> nothing() { co_return; }

} // namespace

int main() {
    plait::io_context context;
    std::thread([&] { context.run(nothing()); }).join();
    context.run(nothing());
}
