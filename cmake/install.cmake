# What `cmake --install` copies, and how others find it: find_package(plait) and pkg-config.

include(CMakePackageConfigHelpers)
set(plait_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/plait")

install(TARGETS plait EXPORT plait-targets)
install(DIRECTORY include/ "${PROJECT_BINARY_DIR}/include/"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILES_MATCHING PATTERN "*.hpp")
install(EXPORT plait-targets NAMESPACE plait:: DESTINATION "${plait_cmake_dir}")

configure_package_config_file(cmake/plait-config.cmake.in
    "${PROJECT_BINARY_DIR}/plait-config.cmake"
    INSTALL_DESTINATION "${plait_cmake_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/plait-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
install(FILES
    "${PROJECT_BINARY_DIR}/plait-config.cmake"
    "${PROJECT_BINARY_DIR}/plait-config-version.cmake"
    DESTINATION "${plait_cmake_dir}")

# The .pc file finds its prefix from its own place, so that the installed tree may be moved.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
    BASE_DIRECTORY "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" OUTPUT_VARIABLE plait_pc_prefix)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR
    BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" OUTPUT_VARIABLE plait_pc_includedir)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_LIBDIR
    BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" OUTPUT_VARIABLE plait_pc_libdir)
set(plait_pc_cflags "")
set(plait_pc_requires_private "")
set(plait_pc_libs_private "-pthread")
if(NOT BUILD_SHARED_LIBS)
    set(plait_pc_cflags "-DPLAIT_STATIC_DEFINE")
    if(WIN32)
        set(plait_pc_libs_private "-lws2_32 -lmswsock -liphlpapi")
    else()
        set(plait_pc_requires_private "liburing")
    endif()
endif()
configure_file(cmake/plait.pc.in "${PROJECT_BINARY_DIR}/plait.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/plait.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
