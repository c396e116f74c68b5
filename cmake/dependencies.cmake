# The parts that plait stands on. Installed packages are taken first. Catch2, fmt and nlohmann_json are fetched when they
# are not installed; FETCHCONTENT_SOURCE_DIR_CATCH2, _FMT and _NLOHMANN_JSON name source trees to take instead.

# Where `./dev` puts a Catch2 that it had to build itself.
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CROSSCOMPILING)
    list(APPEND CMAKE_PREFIX_PATH "${PROJECT_SOURCE_DIR}/build/deps/prefix")
endif()

find_package(Threads REQUIRED)

if(NOT WIN32)
    find_package(PkgConfig REQUIRED)
    pkg_check_modules(LIBURING REQUIRED IMPORTED_TARGET liburing>=2.3)
endif()

include(FetchContent)

if(PLAIT_BUILD_TESTS OR PLAIT_BUILD_EXAMPLES)
    set(FMT_INSTALL OFF CACHE INTERNAL "a fetched fmt is not installed with plait")
    FetchContent_Declare(fmt
        GIT_REPOSITORY https://github.com/fmtlib/fmt.git
        GIT_TAG 9.1.0
        SYSTEM
        FIND_PACKAGE_ARGS 9)
    FetchContent_MakeAvailable(fmt)
else()
    find_package(fmt QUIET)
endif()

if(PLAIT_BUILD_TESTS)
    FetchContent_Declare(Catch2
        GIT_REPOSITORY https://github.com/catchorg/Catch2.git
        GIT_TAG v3.7.1
        SYSTEM
        FIND_PACKAGE_ARGS 3)
    # The framing tests read their cases with it.
    FetchContent_Declare(nlohmann_json
        GIT_REPOSITORY https://github.com/nlohmann/json.git
        GIT_TAG v3.11.2
        GIT_SHALLOW TRUE
        SYSTEM
        FIND_PACKAGE_ARGS 3)
    FetchContent_MakeAvailable(Catch2 nlohmann_json)
endif()
