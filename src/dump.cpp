#include "src/loop.hpp"

#include <string_view>

namespace plait::inline v1 {
namespace {

/// The path from the last folder on: where the build stood tells a reader nothing.
const char* short_path(const char* path) noexcept {
    const std::string_view text = path;
    const std::size_t last = text.rfind('/');
    if (last == std::string_view::npos || last == 0) return path;
    const std::size_t before = text.rfind('/', last - 1);
    return before == std::string_view::npos ? path : path + before + 1;
}

void dump_wait(std::FILE* out, const detail::pending& wait) {
    std::fprintf(out, "%s", wait.type->name);
    const char* join = " at ";
    for (const detail::environment* env = wait.waiting; env; env = env->parent) {
        if (env->awaits.line == 0) continue;
        std::fprintf(out, "%s%s:%u", join, short_path(env->awaits.file), env->awaits.line);
        join = " <- ";
    }
    std::fputc('\n', out);
}

void dump_scope(std::FILE* out, detail::scope& scope) {
    scope.waits.for_each([out](detail::pending& wait) { dump_wait(out, wait); });
    scope.inner.for_each([out](detail::scope& inner) { dump_scope(out, inner); });
}

} // namespace

void io_context::dump(std::FILE* out) const { dump_scope(out, loop_->root_scope); }

} // namespace plait::inline v1
