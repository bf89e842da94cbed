#include "json_body.h"

bool json_body_read(const struct request *req, size_t max_bytes, struct json_body *ret,
                    struct error *err)
{
    const int64_t cost = json_cost(req->body);

    *ret = (struct json_body){.budget = req->context.budget};
    if (req->body.len > max_bytes)
        return error_set(err, ERROR_TOO_LARGE, "the body is over %zu bytes", max_bytes);
    if (!byte_budget_take(ret->budget, cost))
        return error_set(err, ERROR_OVERLOADED, "no room to read JSON");
    ret->charged = cost;
    ret->object = json_read(req->body, 0, err);
    return ret->object != NULL &&
           (json_is_object(ret->object) ||
            error_set(err, ERROR_BAD_REQUEST, "the body is not a JSON object"));
}

void json_body_done(struct json_body *body)
{
    json_decref(body->object);
    if (body->charged > 0)
        byte_budget_give(body->budget, body->charged);
    *body = (struct json_body){0};
}
