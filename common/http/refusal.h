/* Making sure that a refusal reaches its client. Closing a socket with unread data sends a reset,
 * and the reset can destroy a reply that the client has not read yet; so FIN is sent first and what
 * the client still sends is read and discarded. */
#pragma once

#include "http/rpc.h"

enum { REFUSAL_LINGER_MS = 2000 };

/* How a request is answered on its socket. */
struct refusal_look {
    const char *lines; /* further header lines, each with its CRLF, or "" */
    enum error_form form;
    const struct rpc_protocol *call; /* or NULL */
    const struct request *req;       /* the call's */
};
/* Put `err` on the wire as a whole response, then FIN. Never blocks: if the socket cannot take so
 * little at once, its client is not reading anyway. */
void refusal_send(int fd, const struct error *err, const char *request_id,
                  const struct refusal_look *look);

/* Send FIN, then read and discard until the client closes, REFUSAL_LINGER_MS or max_bytes. */
void refusal_linger(int fd, int64_t max_bytes);

/* Answer every connection waiting in the backlog of a listening, non-blocking socket, and those
 * whose handshake is under way, and close it; returns after at most linger_ms and the 20 ms that a
 * handshake is given. */
void refusal_of_backlog(int listen_fd, const struct error *err, int linger_ms);
