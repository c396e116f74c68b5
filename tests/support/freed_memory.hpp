#pragma once
/// Keeps what the library frees, filled with a pattern, and finds out who writes to it afterwards. (Sanitizers do not
/// see what the system writes.)
///
///     support::freed_memory freed;
///     …
///     CHECK(freed.changed_bytes() == 0);

#include <plait/detail/memory.hpp>

#include <cstddef>
#include <cstring>
#include <deque>

namespace support {

/// One at a time, and while one thread alone frees.
class freed_memory {
  public:
    freed_memory() noexcept { plait::detail::set_free_hook(&freed_memory::take); }
    freed_memory(const freed_memory&) = delete;
    freed_memory& operator=(const freed_memory&) = delete;
    ~freed_memory() {
        plait::detail::set_free_hook(nullptr);
        while (!kept().empty()) look_at_oldest();
        changed() = 0;
    }

    /// How many bytes were written to after they had been freed. Looks at everything that is kept, and gives it back.
    std::size_t changed_bytes() {
        while (!kept().empty()) look_at_oldest();
        return changed();
    }

  private:
    struct block {
        std::byte* bytes;
        std::size_t size;
    };
    static constexpr auto pattern = std::byte{0xd5};
    static constexpr std::size_t most_kept = 100'000; // blocks; the oldest are looked at before they go

    static std::deque<block>& kept() {
        static std::deque<block> blocks;
        return blocks;
    }
    static std::size_t& changed() {
        static std::size_t bytes = 0;
        return bytes;
    }
    static bool take(void* memory, std::size_t size) noexcept {
        std::memset(memory, static_cast<int>(pattern), size);
        kept().push_back({static_cast<std::byte*>(memory), size});
        if (kept().size() > most_kept) look_at_oldest();
        return true;
    }
    static void look_at_oldest() {
        const block oldest = kept().front();
        kept().pop_front();
        for (std::size_t i = 0; i < oldest.size; ++i) changed() += oldest.bytes[i] != pattern;
        plait::detail::release_block(oldest.bytes);
    }
};

} // namespace support
