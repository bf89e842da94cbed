/* HTTP/2 without TLS (h2c with prior knowledge, RFC 9113): one thread moves the bytes of all its
 * connections, and handlers run on threads of their own (handler_threads.h). A stream is an
 * exchange.h, as a request of HTTP/1.1 is: the same routes, limits, log and metrics.
 *
 * What a client may cost, beyond what is limited for every request:
 *   streams at a time: 100, and 100 handlers running or waiting, also for streams that it has reset
 *   fields: 64 and 16 KiB a request (else 431), 256 KiB of them a connection
 *   streams that we must reset for its errors, and PINGs between requests: 100 in 10 s
 *   streams that it resets itself: 10,000 at once and 5,000/s, since deadlines and early answers do
 *   preface and SETTINGS, and headers once begun: 10 s
 *   output that it does not read: 30 s, and nothing is read from it meanwhile
 *   idle: 60 s
 * A client with open streams from which nothing has come for 60 s is asked by PING, and has 20 s.
 * A reply is charged to the byte budget until it has been sent. So is what a client has sent of a
 * stream (rpc_stream.h), up to its window of 1 MiB, until its handler has read it. */
#pragma once

#include "http/admission.h"

struct h2;

/* `admission` is borrowed. ERROR_OVERLOADED. */
struct h2 *h2_start(struct admission *admission, struct error *err) NODISCARD;
/* Take over a connection and its non-blocking socket, of which nothing has been read. Any thread.
 */
void h2_take(struct h2 *h2, struct connection *c, int fd);
/* Ask all clients to open no more streams here; those that they have go on. */
void h2_drain(struct h2 *h2);
/* Close all connections, wait for the handlers that run, free. */
void h2_stop(struct h2 *h2);
