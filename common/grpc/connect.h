/* Connect's unary calls (connectrpc.com/docs/protocol): a POST whose body is the message and
 * nothing else, over HTTP/1.1 and HTTP/2. Errors are JSON with an HTTP status. Messages are
 * protocol buffers (application/proto); there is neither JSON nor GET. Pure; thread-safe. */
#pragma once

#include "http/rpc.h"

extern const struct rpc_protocol connect_protocol;
