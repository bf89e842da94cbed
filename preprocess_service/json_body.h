/* A request's body as a JSON object, charged to the budget while it lives. */
#pragma once

#include "base/json.h"
#include "http/request.h"

/* Zero-initialise. */
struct json_body {
    json_t *object;
    struct byte_budget *budget;
    int64_t charged;
};

/* ERROR_TOO_LARGE: over max_bytes; ERROR_BAD_REQUEST: no JSON object; ERROR_OVERLOADED. */
bool json_body_read(const struct request *req, size_t max_bytes, struct json_body *ret,
                    struct error *err) NODISCARD;
void json_body_done(struct json_body *body);
