#include "support/lacks.hpp"

namespace support {

std::string lacks_keep_alive_times() { return {}; }
std::string lacks_user_timeout() { return {}; }
std::string lacks_refusals() { return {}; }

} // namespace support
