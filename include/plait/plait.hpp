#pragma once
/// Everything but the formatters of fmt.hpp.

#include <plait/activation.hpp>
#include <plait/bytes.hpp>
#include <plait/codec.hpp>
#include <plait/endpoint.hpp>
#include <plait/foreign.hpp>
#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/lease.hpp>
#include <plait/offload.hpp>
#include <plait/per_core.hpp>
#include <plait/resolve.hpp>
#include <plait/result.hpp>
#include <plait/serve.hpp>
#include <plait/signal.hpp>
#include <plait/stream.hpp>
#include <plait/sync.hpp>
#include <plait/task.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>
#include <plait/udp.hpp>
#include <plait/unix.hpp>
#include <plait/when.hpp>
