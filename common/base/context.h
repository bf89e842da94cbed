/* What a use case knows of its caller, whichever protocol the caller speaks. Borrowed; lives as
 * long as the request. */
#pragma once

#include "base/byte_budget.h"
#include "base/stages.h"

enum { REQUEST_ID_MAX = 64, TRACEPARENT_LEN = 55 };

struct context {
    const char *id;          /* the request's, for logs */
    const char *traceparent; /* W3C Trace Context, or "" when none or not valid */
    const char *who;         /* the user who signed in, or "" */
    int64_t deadline_ms;     /* monotonic: answer by then */
    /* of buffered bodies; charge what else is buffered for the request */
    struct byte_budget *budget;
    struct stages *stages; /* how long things take is noted there; may be NULL */
};

/* [A-Za-z0-9._-]{1,64} */
bool request_id_is_valid(const char *id);
/* W3C Trace Context level 1: version 00 with nonzero ids, lower case. */
bool traceparent_is_valid(const char *value);
