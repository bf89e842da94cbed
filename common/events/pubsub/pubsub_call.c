#include "events/pubsub/pubsub_call.h"

#include "base/json.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "client/http_client.h"

#include <jansson.h>
#include <string.h>

enum {
    REPLY_MAX = 64 * 1024,
    TOPIC_MAX = 1024,
    STATUS_MAX = 40, /* of Google's error names, like PERMISSION_DENIED */
};

static const char google[] = "https://pubsub.googleapis.com";

char *pubsub_url(const struct pubsub_options *options, struct error *err)
{
    CLEANUP(buffer_done) struct buffer topic = BUFFER_MAX(3 * TOPIC_MAX);
    const char *endpoint = *options->endpoint != '\0' ? options->endpoint : google;
    size_t len = strlen(endpoint);

    if (!string_percent_encode(options->topic, "/:", &topic, err))
        return NULL;
    len -= len > 0 && endpoint[len - 1] == '/';
    return xasprintf("%.*s/v1/%.*s:publish", (int)len, endpoint, (int)topic.len,
                     (const char *)topic.data);
}

/* The ids of a 200, one for each message: anything else is no confirmation. */
static bool read_ids(const struct http_reply *reply, struct pubsub_call *call)
{
    struct error malformed;
    CLEANUP_JSON json_t *json = json_read(buffer_view(&reply->body), 0, &malformed);
    const json_t *ids = json_object_get(json, "messageIds");

    if (json_array_size(ids) != call->count)
        return false;
    for (size_t i = 0; i < call->count; i++) {
        const char *id = json_string_value(json_array_get(ids, i));
        if (id == NULL || *id == '\0' || strlen(id) >= MESSAGE_ID_MAX)
            return false;
        strcpy(call->ids[i], id);
    }
    return true;
}

/* "PERMISSION_DENIED" of {"error": {"status": "PERMISSION_DENIED"}}, else "". */
static void status_name(const struct http_reply *reply, char out[STATUS_MAX])
{
    struct error malformed;
    CLEANUP(cleanup_json) json_t *json = json_read(buffer_view(&reply->body), 0, &malformed);
    const char *name = json_string_value(json_object_get(json_object_get(json, "error"), "status"));

    *out = '\0';
    if (name != NULL && strlen(name) < STATUS_MAX &&
        name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_")] == '\0')
        strcpy(out, name);
}

static enum pubsub_verdict judge(const struct pubsub_options *options, struct pubsub_call *call,
                                 const struct http_reply *reply, struct error *err)
{
    const long status = reply->status;
    char name[STATUS_MAX];

    if (status == 200 && read_ids(reply, call))
        return PUBSUB_DONE;
    status_name(reply, name);
    switch (status) {
    case 200: /* not Pub/Sub's answer: some proxy's? */
        error_set(err, ERROR_UNAVAILABLE, "Pub/Sub answers without an id for every message");
        return PUBSUB_AGAIN;
    case 401:
        error_set(err, ERROR_UNAVAILABLE, "Pub/Sub refuses our credentials (401 %s)", name);
        return options->bearer != NULL ? PUBSUB_NEW_TOKEN : PUBSUB_FAILED;
    case 403:
        error_set(err, ERROR_UNAVAILABLE,
                  "Pub/Sub lets us not publish to %.100s (403 %s): grant the service's account "
                  "roles/pubsub.publisher there",
                  options->topic, name);
        return PUBSUB_FAILED;
    case 404:
        error_set(err, ERROR_UNAVAILABLE, "Pub/Sub has no topic %.150s: create it", options->topic);
        return PUBSUB_FAILED;
    default:
        error_set(err, ERROR_UNAVAILABLE, "Pub/Sub answers %ld %s", status, name);
    }
    if ((status == 400 || status == 413) && call->count > 1)
        return PUBSUB_ALONE;
    return status == 408 || status == 409 || status == 429 || status == 499 || status >= 500
               ? PUBSUB_AGAIN
               : PUBSUB_FAILED;
}

/* No answer: what is not passing is not the client's fault either, so it is a 503 all the same. */
static enum pubsub_verdict judge_error(struct error *err)
{
    if (err->code == ERROR_UNAVAILABLE || err->code == ERROR_DEADLINE)
        return PUBSUB_AGAIN;
    if (!error_is_passing(err->code))
        err->code = ERROR_UNAVAILABLE;
    return PUBSUB_FAILED;
}

enum pubsub_verdict pubsub_call(const struct pubsub_options *options, const char *url,
                                struct pubsub_call *call, struct error *err)
{
    static const char bearer[] = "Authorization: Bearer ";
    char authorization[sizeof(bearer) + BEARER_MAX];
    char *token = authorization + strlen(bearer);
    const char *headers[] = {"Content-Type: application/json", NULL, NULL};
    CLEANUP(http_reply_done) struct http_reply reply = {0};

    if (options->bearer != NULL) {
        strcpy(authorization, bearer);
        if (!options->bearer->get(options->bearer, call->deadline_ms, token, err)) {
            error_wrap(err, "a token for Pub/Sub");
            return judge_error(err);
        }
        headers[1] = authorization;
    }
    if (!http_client_call(options->client,
                          &(struct http_call){
                              .method = "POST",
                              .url = url,
                              .headers = headers,
                              .body = call->body,
                              .deadline_ms = call->deadline_ms,
                              .max_reply_bytes = REPLY_MAX,
                          },
                          &reply, err)) {
        error_wrap(err, "Pub/Sub");
        return judge_error(err);
    }
    enum pubsub_verdict verdict = judge(options, call, &reply, err);
    if (verdict == PUBSUB_NEW_TOKEN)
        options->bearer->expired(options->bearer, token);
    return verdict;
}
