/* S3 event notifications. Sources of the format: Amazon S3 User Guide, "Event message structure";
 * MinIO sends the same, with EventName and Key beside the Records and "s3:" before the names. */
#include "base/strings.h"
#include "events/notification/formats.h"

#include <string.h>

bool s3_notification_is(const json_t *body)
{
    const char *event = json_string_value(json_object_get(body, "Event"));

    return json_is_array(json_object_get(body, "Records")) ||
           (event != NULL && strcmp(event, "s3:TestEvent") == 0);
}

static bool is_created(const char *name)
{
    if (string_starts_with(name, "s3:"))
        name += 3;
    return string_starts_with(name, "ObjectCreated:");
}

/* Keys are written like the values of an HTML form. Not every server keeps to that: a character
 * that such a value never has says that the key stands there as it is. */
static bool decode_key(const char *key, struct buffer *out, struct error *err)
{
    for (const char *c = key; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return buffer_append_str(out, key, err);
    CLEANUP_FREE char *text = strdup(key);
    if (text == NULL)
        return error_oom(err);
    for (char *plus = text; (plus = strchr(plus, '+')) != NULL;)
        *plus = ' ';
    return string_percent_decode(text, out, err);
}

/* Differs between the events of one object: no sender leaves out all of it. */
static bool event_id(const json_t *record, const char *bucket, const char *key, struct buffer *out,
                     struct error *err)
{
    const json_t *object = json_object_get(json_object_get(record, "s3"), "object");
    const char *time = json_string_value(json_object_get(record, "eventTime"));
    const char *sequencer = json_string_value(json_object_get(object, "sequencer"));

    return buffer_printf(out, err, "%s/%s %s %s", bucket, key, time != NULL ? time : "",
                         sequencer != NULL ? sequencer : "");
}

static bool read_created(const json_t *record, struct announced *event, struct notification *ret,
                         struct error *err)
{
    CLEANUP(buffer_done) struct buffer uri = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    CLEANUP(buffer_done) struct buffer id = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    const json_t *s3 = json_object_get(record, "s3");
    const char *bucket, *key;

    if (!notification_text(json_object_get(s3, "bucket"), "name", &bucket, err) ||
        !notification_text(json_object_get(s3, "object"), "key", &key, err))
        return false;
    if (*bucket == '\0' || *key == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "no s3.bucket.name or s3.object.key");
    if (!event_id(record, bucket, key, &id, err))
        return false;
    if (!buffer_printf(&uri, err, "s3://%s/", bucket) || !decode_key(key, &uri, err))
        return error_wrap(err, "s3.object.key");
    event->id = (const char *)id.data;
    event->uri = buffer_cstr(&uri, err);
    return event->uri != NULL && notification_add(ret, event, err);
}

static bool read_record(const json_t *record, struct notification *ret, struct error *err)
{
    struct announced event = {0};
    const char *name;

    if (!notification_text(record, "eventName", &name, err) ||
        !notification_text(record, "eventSource", &event.source, err))
        return false;
    if (*name == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "no eventName");
    return is_created(name) ? read_created(record, &event, ret, err)
                            : notification_add(ret, &event, err);
}

bool s3_notification_read(const json_t *body, struct notification *ret, struct error *err)
{
    const json_t *records = json_object_get(body, "Records");
    size_t count = json_array_size(records);

    if (!json_is_array(records)) /* what AWS sends when notifications are switched on */
        return notification_add(ret, &(struct announced){0}, err);
    if (count == 0 || count > NOTIFICATION_RECORDS_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "Records must have 1 to %d items",
                         NOTIFICATION_RECORDS_MAX);
    for (size_t i = 0; i < count; i++)
        if (!read_record(json_array_get(records, i), ret, err))
            return error_wrap(err, "Records[%zu]", i);
    return true;
}
