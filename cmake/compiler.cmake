# How our own targets are compiled: warnings, sanitizers, exceptions, visibility.

# Sanitizers go to everything that this build compiles, fetched dependencies included.
if(PLAIT_SANITIZE)
    list(JOIN PLAIT_SANITIZE "," plait_sanitizers)
    add_compile_options(-fsanitize=${plait_sanitizers} -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${plait_sanitizers})
    if("undefined" IN_LIST PLAIT_SANITIZE)
        # Without vptr: it asks a pipe whether memory can be read, and cries wolf in tests that use up all descriptors.
        add_compile_options(-fno-sanitize-recover=all -fno-sanitize=vptr)
    endif()
endif()

function(plait_compile_like_us target)
    set_target_properties(${target} PROPERTIES
        CXX_VISIBILITY_PRESET hidden
        VISIBILITY_INLINES_HIDDEN ON)

    if(MSVC)
        target_compile_options(${target} PRIVATE /utf-8 /permissive- /EHsc /Zc:__cplusplus /Zc:preprocessor /W4)
        # getenv, strerror and their like are what the standard calls them.
        target_compile_definitions(${target} PRIVATE _CRT_SECURE_NO_WARNINGS)
        if(PLAIT_WERROR)
            target_compile_options(${target} PRIVATE /WX)
        endif()
        return()
    endif()

    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual
        # Messages that carry __FILE__ name the file from the top of the repository.
        -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
    target_compile_definitions(${target} PRIVATE $<$<CONFIG:Debug>:_GLIBCXX_ASSERTIONS>)
    if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
        # Not with GCC 12: it sees null coroutine frames where there are none.
        target_compile_options(${target} PRIVATE -Wnull-dereference)
    elseif(PLAIT_SANITIZE)
        # GCC's data-flow warnings are unreliable on instrumented code, and -Wtsan regrets every fence.
        target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized -Wno-tsan)
    elseif(MINGW)
        # At -O1, GCC 12 takes what stands behind a flag for uninitialized.
        target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
    if(PLAIT_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(PLAIT_NO_EXCEPTIONS)
        target_compile_options(${target} PRIVATE -fno-exceptions)
    endif()
endfunction()
