#include <plait/activation.hpp>

namespace plait::inline v1 {

std::vector<activated_listener> activated_listeners() { return {}; }

} // namespace plait::inline v1
