/* The listening socket and the descriptors that its connections will need. */
#pragma once

#include "base/error.h"

#include <stdint.h>

/* A non-blocking socket listening on host and port (0: any free one), or -1: ERROR_CONFIG. */
int listener_open(const char *host, int port, struct error *err) NODISCARD;
/* The port a socket is bound to; 0 when that cannot be told. */
int listener_port(int fd);
/* Raise RLIMIT_NOFILE as far as that many connections need. ERROR_CONFIG. */
bool listener_raise_fd_limit(int64_t max_connections, struct error *err) NODISCARD;
