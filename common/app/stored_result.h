/* GET /results: what is stored about an object. The same in both services. */
#pragma once

#include "base/context.h"
#include "http/reply.h"
#include "store/store.h"

/* 200 with the stored result of the object `key`; 202 while the object has none; 404 without the
 * object. A sealed one is its owner's: 404 unless `sealed`. */
struct reply reply_stored_result(struct store *store, const struct context *ctx, const char *key,
                                 bool sealed);

/* The same of an image of ours, "<id>" or "<id>.<extension>". */
struct reply reply_stored_result_of(struct store *store, const struct context *ctx,
                                    const char *name, bool sealed);
