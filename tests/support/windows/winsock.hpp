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
