/* An event as the outbox keeps it. */
#pragma once

#include "events/publisher.h"

struct outbox_row {
    int64_t seq;
    char event_id[UUID_LEN + 1];
    char id[SHA256_HEX_LEN + 1];
    char *gcs_path;     /* heap; outbox_row_done */
    char *content_type; /* heap */
    char traceparent[EVENT_TRACEPARENT_MAX];
    int64_t attempts; /* refusals so far */
    int64_t created_ms;
};

void outbox_row_done(struct outbox_row *row);
