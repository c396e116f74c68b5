#pragma once
/// A buffer that belongs to one lease alone, for when the pool is exhausted.

#include <plait/detail/memory.hpp>
#include <plait/detail/socket_state.hpp>

#include <new>

namespace plait::inline v1 {
namespace detail {

struct private_buffer : buffer_block {
    static constexpr std::size_t usual_size = 4096;

    static private_buffer* make(std::size_t size) {
        auto* buffer = ::new (allocate(sizeof(private_buffer) + size)) private_buffer;
        buffer->size = size;
        buffer->release = [](buffer_block& lease) noexcept {
            auto& mine = static_cast<private_buffer&>(lease);
            deallocate(&mine, sizeof(private_buffer) + mine.size);
        };
        return buffer;
    }
    std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }

    std::size_t size;
};

} // namespace detail
} // namespace plait::inline v1
