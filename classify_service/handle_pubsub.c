/* POST /pubsub: events in, one status out. 200 acknowledges them (labelled, ignored, or rejected
 * for good), 503 asks the sender to repeat. */
#include "base/json.h"
#include "http/encoding.h"
#include "settle.h"

/* While it is parsed its memory is charged like that of the body. */
static bool read_notification(const struct request *req, struct notification *ret,
                              struct error *err)
{
    int64_t cost = json_cost(req->body);

    if (cost > NOTIFICATION_COST_MAX) /* it will be refused, unparsed */
        cost = 0;
    if (!byte_budget_take(req->context.budget, cost))
        return error_set(err, ERROR_OVERLOADED, "no room for %lld bytes of JSON", (long long)cost);
    bool ok = notification_read(req, ret, err);
    byte_budget_give(req->context.budget, cost);
    return ok;
}

struct reply handle_pubsub(const struct app *app, const struct request *req)
{
    CLEANUP(notification_done) struct notification notification = {0};
    CLEANUP(decoded_body_done) struct decoded_body body = {0};
    struct request plain = *req;
    struct error err = {0};

    if (!body_decode(req, NOTIFICATION_BYTES_MAX, &body, &err))
        return reply_error(&err);
    plain.body = body.bytes;
    if (!read_notification(&plain, &notification, &err))
        return reply_error(&err);
    json_t *report = settle_all(app, &req->context, &notification, &err);
    return report != NULL ? reply_json(200, report) : reply_error(&err);
}
