/* What is written of every request that is over: its line in the log (with Cloud Logging's
 * httpRequest) and its metrics. Thread-safe. */
#pragma once

#include "http/request.h"

struct access {
    const struct request *req;
    int status;
    size_t reply_bytes;
    double seconds;
    bool sent;  /* the reply, to its end */
    bool light; /* logged at debug level only */
};

void access_log(const struct access *access);
