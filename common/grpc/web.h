/* Calls for clients that cannot read HTTP/2's trailers (browsers, curl, HTTP/1.1): gRPC-Web
 * (grpc/doc/PROTOCOL-WEB.md), whose trailers are the last frame of the body. Unary calls only; a
 * call's headers, message and status are gRPC's (call.h). Pure; thread-safe. */
#pragma once

#include "http/rpc.h"

extern const struct rpc_protocol grpc_web_protocol;
