/* The header fields of an HTTP/2 request as they come, and the request that they make. Pure. */
#pragma once

#include "http/exchange.h"

enum {
    H2_FIELDS_MAX = EXCHANGE_FIELDS_MAX + 5, /* with the pseudo-header fields */
};

/* Zero-initialise, with h2_fields_init. */
struct h2_fields {
    struct buffer text; /* name NUL value NUL … */
    size_t count;
    size_t bytes;
    bool too_large;
};

void h2_fields_init(struct h2_fields *f);
void h2_fields_done(struct h2_fields *f);
/* What is too much is left out, and `too_large` set. */
void h2_fields_add(struct h2_fields *f, struct bytes name, struct bytes value);
/* Fill in the exchange's fields (of which :authority becomes Host) and parameters, and begin it.
 * What it borrows is in `f`, which is changed: parameters and path are decoded where they stand. */
void h2_fields_begin(struct h2_fields *f, struct exchange *x);
