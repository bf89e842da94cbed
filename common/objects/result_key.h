/* The keys of what is stored besides objects: "<object's key>.json" is a result,
 * "<prefix>rejected/<digest>.json" records an event that cannot be labelled, and
 * "<prefix>tasks/<uuid>.json" a task of the pipeline, whose picture is beside it (.png). Pure. */
#pragma once

#include "base/strings.h"

#define RESULT_SUFFIX ".json"

enum { RESULT_BYTES_MAX = 1024 * 1024 };

/* The key of an object's result. ERROR_BAD_REQUEST when it does not fit into `size` bytes. */
bool result_key(const char *object_key, char *out, size_t size, struct error *err) NODISCARD;

/* The key of a rejected event's record. ERROR_INTERNAL when it does not fit. */
bool rejected_key(const char *prefix, const char digest[SHA256_HEX_LEN + 1], char *out, size_t size,
                  struct error *err) NODISCARD;

/* The key of a task's record or picture, `suffix` ".json" or ".png". ERROR_INTERNAL when it does
 * not fit. */
bool task_key(const char *prefix, const char task[UUID_LEN + 1], const char *suffix, char *out,
              size_t size, struct error *err) NODISCARD;
/* Whether it is a UUID as string_uuid makes them. */
bool task_id_is_valid(const char *id);

/* Whether the services may have written this key besides objects: any result, and all under
 * rejected/ and tasks/. */
bool key_is_output(const char *key, const char *prefix);

/* What the services write. */
enum key_kind { KEY_FOREIGN, KEY_OBJECT, KEY_RESULT, KEY_REJECTED, KEY_TASK };
/* `name` is the key behind the store's prefix. */
enum key_kind key_kind_of(const char *name);
