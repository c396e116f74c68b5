#pragma once
/// Windows' own headers, without the names that they would otherwise bring along.

#ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#    define NOMINMAX
#endif
#include <winsock2.h>
// After winsock2.h, which they need.
#include <windows.h>
#include <ws2tcpip.h>

#include "support/must.hpp"

namespace support {

/// From now on until the process ends; plait may come and go with its own.
inline void use_winsock() {
    static const int failure = [] {
        WSADATA data;
        return ::WSAStartup(MAKEWORD(2, 2), &data);
    }();
    must(failure == 0, "WSAStartup");
}

} // namespace support
