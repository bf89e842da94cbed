/* CloudEvents 1.0, HTTP protocol binding (binary and structured mode), JSON event format; the two
 * types of Google's that are about objects. */
#include "base/strings.h"
#include "events/notification/formats.h"

#include <string.h>
#include <strings.h>

static const char media_type[] = "application/cloudevents";

enum { ATTRIBUTE_MAX = 4096 };

struct cloudevent {
    char *specversion, *id, *source, *type; /* heap */
    json_t *data;                           /* NULL when there is none */
};

static void cloudevent_done(struct cloudevent *event)
{
    free(event->specversion);
    free(event->id);
    free(event->source);
    free(event->type);
    json_decref(event->data);
}

static const char *content_type(const struct request *req)
{
    const char *ret = request_header(req, "Content-Type");

    return ret != NULL ? ret + strspn(ret, " \t") : "";
}

bool cloudevent_is_structured(const struct request *req)
{
    return strncasecmp(content_type(req), media_type, strlen(media_type)) == 0;
}

bool cloudevent_is_binary(const struct request *req)
{
    return request_header(req, "ce-specversion") != NULL ||
           request_header(req, "ce-type") != NULL || request_header(req, "ce-id") != NULL;
}

static bool forward(const struct error *why, struct error *err)
{
    *err = *why;
    return false;
}

/* ---- binary mode */

/* What a quoted-string says (RFC 9110, 5.6.4); other text is copied as it is. */
static bool unquote(const char *text, struct buffer *out, struct error *err)
{
    size_t len = strlen(text);

    if (len < 2 || text[0] != '"' || text[len - 1] != '"')
        return buffer_append_str(out, text, err);
    for (size_t i = 1; i < len - 1; i++) {
        i += i < len - 2 && text[i] == '\\';
        if (!buffer_append(out, &text[i], 1, err))
            return false;
    }
    return true;
}

/* The binding (3.1.3.2): unquote, then decode %XX once. */
static bool read_header(const struct request *req, const char *name, char **ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer plain = BUFFER_MAX(ATTRIBUTE_MAX);
    CLEANUP(buffer_done) struct buffer decoded = BUFFER_MAX(ATTRIBUTE_MAX);
    const char *value = request_header(req, name);

    if (value == NULL || *value == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "the header %s is missing", name);
    if (!unquote(value, &plain, err))
        return err->code == ERROR_TOO_LARGE
                   ? error_set(err, ERROR_BAD_REQUEST, "the header %s is too long", name)
                   : false;
    const char *text = buffer_cstr(&plain, err);
    if (text == NULL || !string_percent_decode(text, &decoded, err))
        return error_wrap(err, "the header %s", name);
    if (buffer_cstr(&decoded, err) == NULL)
        return false;
    *ret = (char *)TAKE_PTR(decoded.data);
    return true;
}

static bool read_binary(const struct request *req, struct cloudevent *ret, struct error *err)
{
    if (!read_header(req, "ce-specversion", &ret->specversion, err) ||
        !read_header(req, "ce-id", &ret->id, err) ||
        !read_header(req, "ce-source", &ret->source, err) ||
        !read_header(req, "ce-type", &ret->type, err))
        return false;
    /* other types' data need not be JSON; what is not is missed where it is needed */
    struct error why;
    ret->data = notification_parse(req->body, "the event's data", &why);
    return ret->data != NULL || why.code == ERROR_BAD_REQUEST || forward(&why, err);
}

/* ---- structured mode */

static bool read_member(const json_t *event, const char *name, char **ret, struct error *err)
{
    const char *text;

    if (!notification_text(event, name, &text, err))
        return false;
    if (*text == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "a CloudEvent without %s", name);
    *ret = strdup(text);
    return *ret != NULL || error_oom(err);
}

static bool read_data(const json_t *event, struct cloudevent *ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer decoded = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    json_t *data = json_object_get(event, "data");
    const char *base64;

    if (!notification_text(event, "data_base64", &base64, err))
        return false;
    if (data != NULL && *base64 != '\0')
        return error_set(err, ERROR_BAD_REQUEST, "a CloudEvent with both data and data_base64");
    if (*base64 == '\0') {
        ret->data = json_is_object(data) ? json_incref(data) : NULL;
        return true;
    }
    struct error why;
    if (!string_base64_decode(base64, &decoded, err))
        return error_wrap(err, "data_base64");
    ret->data = notification_parse(buffer_view(&decoded), "the event's data", &why);
    return ret->data != NULL || why.code == ERROR_BAD_REQUEST || forward(&why, err);
}

static bool read_structured(const struct request *req, struct cloudevent *ret, struct error *err)
{
    const char *format = content_type(req) + strlen(media_type);

    if (strncasecmp(format, "+json", 5) != 0 || strchr("; \t", format[5]) == NULL)
        return error_set(err, ERROR_UNSUPPORTED_MEDIA,
                         "a CloudEvent must be a single one, as JSON");
    CLEANUP_JSON json_t *event = notification_parse(req->body, "the body", err);
    return event != NULL && read_member(event, "specversion", &ret->specversion, err) &&
           read_member(event, "id", &ret->id, err) &&
           read_member(event, "source", &ret->source, err) &&
           read_member(event, "type", &ret->type, err) && read_data(event, ret, err);
}

/* ---- what the event says */

static bool read_finalized(const struct cloudevent *event, struct announced *announced,
                           struct notification *ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer uri = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    const char *bucket, *name;

    if (!notification_resource(event->data, &bucket, &name))
        return error_set(err, ERROR_BAD_REQUEST, "the event's data has no bucket and name");
    if (!buffer_printf(&uri, err, "gs://%s/%s", bucket, name))
        return false;
    announced->uri = (const char *)uri.data;
    return notification_add(ret, announced, err);
}

static bool is(const char *text, const char *expected)
{
    return text != NULL && strcmp(text, expected) == 0;
}

bool cloudevent_read(const struct request *req, struct notification *ret, struct error *err)
{
    CLEANUP(cloudevent_done) struct cloudevent event = {0};

    if (!(cloudevent_is_structured(req) ? read_structured(req, &event, err)
                                        : read_binary(req, &event, err)))
        return false;
    if (!is(event.specversion, "1.0"))
        return error_set(err, ERROR_BAD_REQUEST, "specversion is not 1.0");
    struct announced announced = {.source = event.source, .id = event.id};
    if (is(event.type, "google.cloud.pubsub.topic.v1.messagePublished"))
        return pubsub_push_read(event.data, &announced, ret, err);
    if (is(event.type, "google.cloud.storage.object.v1.finalized"))
        return read_finalized(&event, &announced, ret, err);
    return notification_add(ret, &announced, err); /* deleted, archived, of another kind: nothing */
}
