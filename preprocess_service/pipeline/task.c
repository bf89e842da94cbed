#include "task.h"

#include "base/json.h"
#include "base/strings.h"
#include "objects/result_key.h"

#include <string.h>

enum { RECORD_MAX = 65536 };

static const char *const states[] = {
    [TASK_PENDING] = "pending", [TASK_DONE] = "done", [TASK_FAILED] = "failed"};
static const char picture_suffix[] = ".png";

static bool save(struct store *store, const struct task *task, const char *suffix, const char *type,
                 struct bytes data, int64_t deadline_ms, struct error *err)
{
    char key[STORE_KEY_MAX + 1];

    return task_key(store_prefix(store), task->id, suffix, key, sizeof(key), err) &&
           store_put(
               store,
               &(struct store_put){
                   .key = key, .data = data, .content_type = type, .deadline_ms = deadline_ms},
               NULL, err);
}

bool task_save(struct store *store, const struct task *task, int64_t deadline_ms, struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(RECORD_MAX);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:f, s:[]}", "state", states[task->state],
        "file_name", task->file_name, "owner", task->owner, "boot", task->boot, "until_ms",
        (json_int_t)task->until_ms, "label", task->label, "error", task->error, "bytes",
        (json_int_t)task->bytes, "accepted_s", task->accepted_s, "stages");

    for (size_t i = 0; json != NULL && i < PIPELINE_STAGES; i++)
        json_array_append_new(json_object_get(json, "stages"),
                              json_pack("{s:s, s:f, s:f}", "name", stage_name((int)i), "begin_s",
                                        task->spans[i].begin_s, "end_s", task->spans[i].end_s));
    return json_append(json, &text, err) && save(store, task, RESULT_SUFFIX, "application/json",
                                                 buffer_view(&text), deadline_ms, err);
}

static bool read_state(const char *text, enum task_state *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (text != NULL && strcmp(text, states[i]) == 0) {
            *ret = (enum task_state)i;
            return true;
        }
    return false;
}

static void copy(const json_t *json, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json, name));

    utf8_copy(out, size, text != NULL ? text : "");
}

static double number(const json_t *json, const char *name)
{
    return json_number_value(json_object_get(json, name));
}

static bool read_record(const json_t *json, struct task *ret)
{
    if (!read_state(json_string_value(json_object_get(json, "state")), &ret->state))
        return false;
    copy(json, "file_name", ret->file_name, sizeof(ret->file_name));
    copy(json, "owner", ret->owner, sizeof(ret->owner));
    copy(json, "boot", ret->boot, sizeof(ret->boot));
    copy(json, "label", ret->label, sizeof(ret->label));
    copy(json, "error", ret->error, sizeof(ret->error));
    ret->until_ms = json_integer_value(json_object_get(json, "until_ms"));
    ret->bytes = (uint64_t)json_integer_value(json_object_get(json, "bytes"));
    ret->accepted_s = number(json, "accepted_s");
    for (size_t i = 0; i < PIPELINE_STAGES; i++) {
        const json_t *span = json_array_get(json_object_get(json, "stages"), i);
        ret->spans[i] = (struct task_span){number(span, "begin_s"), number(span, "end_s")};
    }
    return true;
}

bool task_load(struct store *store, const char *id, int64_t deadline_ms, struct task *ret,
               struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(RECORD_MAX);
    char key[STORE_KEY_MAX + 1];

    *ret = (struct task){0};
    utf8_copy(ret->id, sizeof(ret->id), id);
    if (!task_key(store_prefix(store), ret->id, RESULT_SUFFIX, key, sizeof(key), err) ||
        !store_get(
            store,
            &(struct store_get){.key = key, .max_bytes = RECORD_MAX, .deadline_ms = deadline_ms},
            &text, NULL, err))
        return false;
    json_t *json = json_read(buffer_view(&text), 0, err);
    bool ok = read_record(json, ret);
    json_decref(json);
    return ok || error_set(err, ERROR_INTERNAL, "%s is not a task's record", key);
}

bool task_save_picture(struct store *store, const struct task *task, struct bytes png,
                       int64_t deadline_ms, struct error *err)
{
    return save(store, task, picture_suffix, "image/png", png, deadline_ms, err);
}

bool task_load_picture(struct store *store, const struct task *task, int64_t deadline_ms,
                       struct buffer *ret, struct error *err)
{
    char key[STORE_KEY_MAX + 1];

    return task_key(store_prefix(store), task->id, picture_suffix, key, sizeof(key), err) &&
           (task->bytes == 0 ||
            store_get(store,
                      &(struct store_get){
                          .key = key, .max_bytes = (size_t)task->bytes, .deadline_ms = deadline_ms},
                      ret, NULL, err));
}
