/* Where a topic is, and how to get there. */
#pragma once

#include "base/clock.h"
#include "base/error.h"

struct bearer;
struct http_client;

/* All pointers are borrowed and must outlive what is made from them. */
struct pubsub_options {
    const char *endpoint;        /* "http(s)://host[:port]"; "" for Google's */
    const char *topic;           /* "projects/P/topics/T" */
    struct http_client *client;  /* its cut ends a running call */
    const struct clock_cut *cut; /* the same one; may be NULL */
    int64_t attempt_ms;          /* for one attempt; 0: 10 s */
    struct bearer *bearer;       /* NULL for none (emulators) */
};
