/* The older classifier's queue: a picture is named by its name in the older image storage, is
 * fetched there and nowhere else, and its four best labels go to reply_to. Nothing is stored. A
 * picture that can never be labelled gets no reply there, either. */
#include "base/clock.h"
#include "base/json.h"
#include "classify.h"
#include "client/http_client.h"
#include "events/amqp/older_message.h"
#include "source.h"

enum { OLDER_LABELS = 4, URL_MAX = 1024 };

static bool check_status(long status, struct error *err)
{
    if (status == 200)
        return true;
    return error_set(err, status >= 500 || status == 429 ? ERROR_UNAVAILABLE : ERROR_NOT_FOUND,
                     "IMAGEDISK_HOST answers %ld", status);
}

static bool fetch(const struct app *app, const struct context *ctx,
                  const struct older_message *message, struct http_reply *ret, struct error *err)
{
    const struct settings *s = &app->service.settings;
    char url[URL_MAX];

    snprintf(url, sizeof(url), "http://%s:%lld/%s-image/%s", s->imagedisk_host,
             (long long)s->imagedisk_port, message->encrypted ? "cipher" : "plain", message->name);
    return http_client_call(app->service.outgoing.client,
                            &(struct http_call){
                                .method = "GET",
                                .url = url,
                                .deadline_ms = ctx->deadline_ms,
                                .max_reply_bytes = (size_t)s->max_body_bytes,
                            },
                            ret, err) &&
           check_status(ret->status, err);
}

/* The picture is charged only now, when its length is known. */
static bool label(const struct app *app, const struct context *ctx, struct bytes picture,
                  struct labels *ret, struct error *err)
{
    if (!byte_budget_take(ctx->budget, (int64_t)picture.len))
        return error_set(err, ERROR_OVERLOADED, "no room for %zu bytes", picture.len);
    bool ok = classify_image(app, ctx, picture, OLDER_LABELS, ret, err);
    byte_budget_give(ctx->budget, (int64_t)picture.len);
    return ok;
}

static json_t *report_labels(const struct app *app, const struct labels *labels)
{
    json_t *names = json_array();

    for (size_t i = 0; i < labels->count; i++) /* whole lines, which labels_to_json cuts */
        json_array_append_new(
            names, json_string(model_manifest(app->model)->labels[labels->top[i].index]));
    return json_pack("{s:s, s:o}", "ok", "true", "labels", names);
}

static json_t *attempt(struct app *app, const struct context *ctx, const void *message,
                       struct error *err)
{
    CLEANUP(http_reply_done) struct http_reply picture = {0};
    struct labels labels = {0};

    if (fetch(app, ctx, message, &picture, err) &&
        label(app, ctx, buffer_view(&picture.body), &labels, err))
        return report_labels(app, &labels);
    return error_http_status(err->code) < 500 ? json_pack("{s:s}", "detail", err->message) : NULL;
}

void older_queue_handle(void *ctx, const struct amqp_delivery *delivery,
                        const struct amqp_incoming *incoming, struct amqp_verdict *verdict)
{
    struct older_message message;
    struct error err = {0};

    if (older_message_read(buffer_view(&incoming->body), &message, &err))
        source_handle(ctx, delivery, incoming, attempt, &message, verdict);
    else
        source_refuse(incoming, &err, verdict);
    if (verdict->outcome == AMQP_DEAD_LETTER) {
        free(verdict->reply);
        verdict->reply = NULL;
    }
}
