#include "objects/result_key.h"

#include "objects/object_name.h"

#include <string.h>

static const char rejected[] = "rejected/";
static const char tasks[] = "tasks/";

bool result_key(const char *object_key, char *out, size_t size, struct error *err)
{
    int n = snprintf(out, size, "%s" RESULT_SUFFIX, object_key);

    return (n > 0 && (size_t)n < size) ||
           error_set(err, ERROR_BAD_REQUEST, "the object's key is too long to have a result");
}

bool rejected_key(const char *prefix, const char digest[SHA256_HEX_LEN + 1], char *out, size_t size,
                  struct error *err)
{
    int n = snprintf(out, size, "%s%s%s" RESULT_SUFFIX, prefix, rejected, digest);

    return (n > 0 && (size_t)n < size) ||
           error_set(err, ERROR_INTERNAL, "the storage prefix is too long");
}

bool task_key(const char *prefix, const char task[UUID_LEN + 1], const char *suffix, char *out,
              size_t size, struct error *err)
{
    int n = snprintf(out, size, "%s%s%s%s", prefix, tasks, task, suffix);

    return (n > 0 && (size_t)n < size) ||
           error_set(err, ERROR_INTERNAL, "the storage prefix is too long");
}

bool task_id_is_valid(const char *id)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    for (size_t i = 0; i < UUID_LEN; i++)
        if (form[i] == '-' ? id[i] != '-'
                           : id[i] == '\0' || strchr("0123456789abcdef", id[i]) == NULL)
            return false;
    return id[UUID_LEN] == '\0';
}

bool key_is_output(const char *key, const char *prefix)
{
    return string_ends_with(key, RESULT_SUFFIX) ||
           (string_starts_with(key, prefix) &&
            (string_starts_with(key + strlen(prefix), rejected) ||
             string_starts_with(key + strlen(prefix), tasks)));
}

/* "tasks/<uuid>.json" or ".png" */
static bool is_task(const char *name)
{
    char id[UUID_LEN + 1];

    if (!string_starts_with(name, tasks) || strlen(name) < strlen(tasks) + UUID_LEN)
        return false;
    memcpy(id, name + strlen(tasks), UUID_LEN);
    id[UUID_LEN] = '\0';
    const char *suffix = name + strlen(tasks) + UUID_LEN;
    return task_id_is_valid(id) &&
           (strcmp(suffix, RESULT_SUFFIX) == 0 || strcmp(suffix, ".png") == 0);
}

static bool is_object(const char *name)
{
    struct object_name parsed;

    return object_name_parse(name, &parsed) && parsed.format != IMAGE_UNKNOWN;
}

enum key_kind key_kind_of(const char *name)
{
    char text[128]; /* the name without RESULT_SUFFIX; no longer one is ours */
    size_t len = strlen(name);

    if (is_object(name))
        return KEY_OBJECT;
    if (is_task(name))
        return KEY_TASK;
    if (!string_ends_with(name, RESULT_SUFFIX) || len >= sizeof(text))
        return KEY_FOREIGN;
    snprintf(text, sizeof(text), "%.*s", (int)(len - strlen(RESULT_SUFFIX)), name);
    if (is_object(text))
        return KEY_RESULT;
    return string_starts_with(text, rejected) && string_is_sha256_hex(text + strlen(rejected))
               ? KEY_REJECTED
               : KEY_FOREIGN;
}
