
#include "base/strings.h"
#include "grpc/call.h"

#include <string.h>

enum { TIMEOUT_DIGITS_MAX = 10 };

static bool timeout_ms(const struct request *req, int64_t *ret, struct error *err)
{
    const char *version = request_header(req, "Connect-Protocol-Version");
    const char *text = request_header(req, "Connect-Timeout-Ms");

    *ret = INT64_MAX;
    if (version != NULL && strcmp(version, "1") != 0)
        return error_set(err, ERROR_BAD_REQUEST, "Connect-Protocol-Version must be 1");
    if (text == NULL)
        return true;
    if (strspn(text, "0123456789") > TIMEOUT_DIGITS_MAX ||
        !string_to_int64(text, 0, INT64_MAX, ret))
        return error_set(err, ERROR_BAD_REQUEST,
                         "Connect-Timeout-Ms must be a number of at most %d digits",
                         TIMEOUT_DIGITS_MAX);
    return true;
}

static bool open_message(const struct request *req, size_t max, struct decoded_body *ret,
                         struct error *err)
{
    *ret = (struct decoded_body){0};
    if (body_decode(req, max, ret, err))
        return true;
    if (err->code == ERROR_UNSUPPORTED_MEDIA) /* an unknown coding: so says the protocol */
        err->code = ERROR_NOT_IMPLEMENTED;
    return false;
}

/* By grpc-status: what Connect calls it, and its HTTP status. */
static const struct {
    int http;
    const char *code;
} statuses[] = {
    [1] = {499, "canceled"},
    [2] = {500, "unknown"},
    [3] = {400, "invalid_argument"},
    [4] = {504, "deadline_exceeded"},
    [5] = {404, "not_found"},
    [6] = {409, "already_exists"},
    [7] = {403, "permission_denied"},
    [8] = {429, "resource_exhausted"},
    [9] = {400, "failed_precondition"},
    [10] = {409, "aborted"},
    [11] = {400, "out_of_range"},
    [12] = {501, "unimplemented"},
    [13] = {500, "internal"},
    [14] = {503, "unavailable"},
    [15] = {500, "data_loss"},
    [16] = {401, "unauthenticated"},
};

static void close_reply(const struct request *req, struct reply *reply)
{
    int status = grpc_status_of(reply->error.code);

    (void)req;
    reply->content_type = "application/proto";
    if (status == 0)
        return;
    struct reply error =
        reply_json(statuses[status].http, json_pack("{s:s, s:s}", "code", statuses[status].code,
                                                    "message", error_public_detail(&reply->error)));
    buffer_done(&reply->body);
    reply->body = error.body;
    reply->status = statuses[status].http;
    reply->content_type = "application/json";
}

const struct rpc_protocol connect_protocol = {
    .types = {"application/proto"},
    .timeout_ms = timeout_ms,
    .open = open_message,
    .close = close_reply,
};
