#include "result.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/strings.h"
#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

enum { REJECTION_BYTES_MAX = 4096, REJECTION_TEXT_MAX = 1024 };

bool result_find(const struct app *app, const struct context *ctx,
                 const struct result_subject *subject, json_t **ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(RESULT_BYTES_MAX);
    char key[STORE_KEY_MAX + 1];

    *ret = NULL;
    if (!result_key(subject->object->key, key, sizeof(key), err))
        return false;
    if (!store_get(subject->object->store,
                   &(struct store_get){
                       .key = key, .max_bytes = RESULT_BYTES_MAX, .deadline_ms = ctx->deadline_ms},
                   &data, NULL, err))
        return err->code == ERROR_NOT_FOUND || err->code == ERROR_TOO_LARGE;
    /* replace a result that is not JSON, or that belongs to other bytes or another model */
    struct error malformed;
    json_t *result = json_read(buffer_view(&data), 0, &malformed);
    if (json_is_text(json_object_get(result, "source_etag"), subject->etag) &&
        json_is_text(json_object_get(result, "model_sha256"), model_manifest(app->model)->sha256))
        *ret = result;
    else
        json_decref(result);
    return true;
}

/* `existed`: only if absent, and whether it was there. */
static bool put_json(const struct context *ctx, struct store *store, const char *key,
                     const json_t *json, bool *existed, struct error *err)
{
    CLEANUP_FREE char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));

    if (text == NULL)
        return error_oom(err);
    return store_put(store,
                     &(struct store_put){
                         .key = key,
                         .data = bytes_from_str(text),
                         .content_type = "application/json",
                         .if_absent = existed != NULL,
                         .deadline_ms = ctx->deadline_ms,
                     },
                     existed, err);
}

static bool complete(const struct app *app, const struct result_subject *subject, json_t *result)
{
    const char *prefix = store_prefix(subject->object->store);
    struct object_name name;
    char now[CLOCK_RFC3339_LEN];

    bool ours = string_starts_with(subject->object->key, prefix) &&
                object_name_parse(subject->object->key + strlen(prefix), &name) &&
                name.format != IMAGE_UNKNOWN;
    clock_rfc3339(clock_wall_ms(), now);
    return json_object_set_new(result, "gcs_path", json_string(subject->uri)) == 0 &&
           json_object_set_new(result, "id", ours ? json_string(name.id) : json_null()) == 0 &&
           json_object_set_new(result, "source_etag", json_string(subject->etag)) == 0 &&
           json_object_set_new(result, "model_sha256",
                               json_string(model_manifest(app->model)->sha256)) == 0 &&
           json_object_set_new(result, "classified_at", json_string(now)) == 0;
}

bool result_store(const struct app *app, const struct context *ctx,
                  const struct result_subject *subject, json_t *result, struct error *err)
{
    char key[STORE_KEY_MAX + 1];
    bool existed = false;
    json_t *found = NULL;

    if (!result_key(subject->object->key, key, sizeof(key), err))
        return false;
    if (result == NULL || !complete(app, subject, result))
        return error_oom(err);
    if (!put_json(ctx, subject->object->store, key, result, &existed, err))
        return false;
    if (!existed)
        return true;
    if (!result_find(app, ctx, subject, &found, err))
        return false;
    if (found != NULL) { /* a duplicate of this event was quicker */
        json_decref(found);
        return true;
    }
    /* a late duplicate about an object that is gone says nothing against what was found in it */
    if (*subject->etag == '\0')
        return true;
    return put_json(ctx, subject->object->store, key, result, NULL, err);
}

static bool key_of_rejection(const struct store *store, const char *source, const char *event_id,
                             char out[STORE_KEY_MAX + 1], struct error *err)
{
    const struct bytes parts[] = {bytes_from_str(source), bytes_from_str("\n"),
                                  bytes_from_str(event_id)};
    char hex[SHA256_HEX_LEN + 1];

    return string_sha256_hex(parts, ARRAY_SIZE(parts), hex, err) &&
           rejected_key(store_prefix(store), hex, out, STORE_KEY_MAX + 1, err);
}

/* Text that JSON may write six times as long. */
static size_t cut(const char *text)
{
    return strnlen(text, REJECTION_TEXT_MAX);
}

bool result_store_rejection(const struct context *ctx, struct store *store,
                            const struct announcement *event, const char *detail, struct error *err)
{
    char key[STORE_KEY_MAX + 1];
    bool existed;

    if (!key_of_rejection(store, event->source, event->id, key, err))
        return false;
    json_t *json = json_pack("{s:s, s:s%, s:s%, s:s%, s:s}", "status", "rejected", "gcs_path",
                             event->uri, cut(event->uri), "event_id", event->id, cut(event->id),
                             "source", event->source, cut(event->source), "detail", detail);
    /* out of memory, a cut in the middle of a UTF-8 sequence, or too long once it is escaped */
    if (json == NULL || json_dumpb(json, NULL, 0, JSON_COMPACT) > REJECTION_BYTES_MAX) {
        json_decref(json);
        json = json_pack("{s:s, s:s}", "status", "rejected", "detail", detail);
    }
    bool ok = json != NULL ? put_json(ctx, store, key, json, &existed, err) : error_oom(err);
    json_decref(json);
    return ok;
}
