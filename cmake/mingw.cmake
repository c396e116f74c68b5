# Windows programs made on Linux: mingw-w64 compiles them, Wine runs them. The presets mingw and mingw-clang;
# `./dev test mingw` installs the compiler, Wine, and the libraries below.

set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(plait_mingw x86_64-w64-mingw32)

if(NOT DEFINED CMAKE_CXX_COMPILER)
    set(CMAKE_CXX_COMPILER ${plait_mingw}-g++-posix) # the other one, -win32, lacks <thread> and <mutex>
endif()
set(CMAKE_CXX_COMPILER_TARGET x86_64-w64-windows-gnu) # for clang; GCC has one target
set(CMAKE_RC_COMPILER ${plait_mingw}-windres)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static) # no program needs a DLL of the compiler's beside it

# Where `./dev` puts the libraries that it builds for Windows. Nothing of this machine's own is ever found.
set(CMAKE_FIND_ROOT_PATH "${CMAKE_CURRENT_LIST_DIR}/../build/deps/mingw-prefix")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

set(CMAKE_CROSSCOMPILING_EMULATOR "${CMAKE_CURRENT_LIST_DIR}/run_wine")
