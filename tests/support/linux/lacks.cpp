#include "support/lacks.hpp"

namespace support {

std::string lacks_keep_alive_times() { return {}; }
std::string lacks_user_timeout() { return {}; }
std::string lacks_refusals() { return {}; }
std::string lacks_bind_errors() { return {}; }
std::string lacks_leave_errors() { return {}; }
std::string lacks_private_groups(bool) { return {}; }
std::string lacks_unix_streams() { return {}; }
std::string lacks_unix_datagrams() { return {}; }
std::string lacks_unix_abstract_names() { return {}; }
std::string lacks_moves_between_contexts() { return {}; }
std::string lacks_ctrl_break() { return {}; }
std::string lacks_close_event() { return {}; }

} // namespace support
