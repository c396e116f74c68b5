#pragma once
/// What tests ask the system itself. linux/ and windows/ answer; CMake takes one of them.

#include <plait/detail/socket_state.hpp>

#include <cstddef>
#include <optional>
#include <span>

namespace support {

// --- this process --------------------------------------------------------------------------------------------------

/// Descriptors that are open (Windows: handles of sockets and files).
std::size_t open_descriptors();

/// Raises the limit as far as this process may, and tells how many can be open then.
std::size_t most_descriptors();

/// Bytes that malloc has given out and not got back; nothing where it does not tell.
std::optional<std::size_t> live_heap_bytes();

/// Whether listen_options::reuse_port is there.
bool listeners_share_ports();

// --- signals -------------------------------------------------------------------------------------------------------

/// Two that a program can send to itself, and one more that it can wait for.
int first_signal();
int second_signal();
int other_signal();
/// What wait_for_dump_request() waits for.
int dump_signal();

/// To the calling thread, at once.
void send_signal(int number);
/// To the process, from outside as it were. On Windows a console event, which arrives a little later on a thread of its
/// own.
void send_signal_to_process(int number);

/// As long as it lives, writing to a closed socket would raise a signal that ends the process, where there is one.
class deadly_broken_pipe {
  public:
    deadly_broken_pipe();
    deadly_broken_pipe(const deadly_broken_pipe&) = delete;
    deadly_broken_pipe& operator=(const deadly_broken_pipe&) = delete;
    ~deadly_broken_pipe();

  private:
    void (*before_)(int) = nullptr;
};

// --- sockets, by their handles -------------------------------------------------------------------------------------

bool is_open_socket(plait::native_socket socket);

/// Whether a child process would get it, too.
bool is_inherited(plait::native_socket socket);

/// What is there already: the number of bytes, 0 at the end, or -1.
std::ptrdiff_t receive_at_once(plait::native_socket socket, std::span<std::byte> into);

/// Bytes that are under way, so that their acknowledgement will make room again. Never on Windows, where the system
/// does not tell.
bool acknowledgements_are_due(plait::native_socket socket);

/// An option's numbers, as setsockopt takes them.
struct option_number {
    int level;
    int name;
};

/// Of a listener: one that plait has no setter for.
option_number listener_option();
/// Of a stream: one that plait has no setter for, and that takes a whole int, which may be `stream_option_value`.
option_number stream_option();
extern const int stream_option_value;
/// One that no system knows.
option_number unknown_option();

/// The value of an option that is an int; -1 where there is none.
int option_of(plait::native_socket socket, option_number option);

bool has_no_delay(plait::native_socket socket);

/// In seconds; the count is a number.
struct keep_alive_values {
    int idle;
    int interval;
    int count;
};
keep_alive_values keep_alive_of(plait::native_socket socket);

} // namespace support
