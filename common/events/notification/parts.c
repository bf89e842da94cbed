#include "events/notification/parts.h"

#include "base/json.h"

json_t *notification_parse(struct bytes text, const char *what, struct error *err)
{
    struct error why = {0};

    if (json_cost(text) > NOTIFICATION_COST_MAX) {
        error_set(err, ERROR_TOO_LARGE, "%s has too many JSON values", what);
        return NULL;
    }
    json_t *ret = json_read(text, JSON_REJECT_DUPLICATES, &why);

    if (json_is_object(ret))
        return ret;
    error_set(err, ERROR_BAD_REQUEST, "%s is not a JSON object%s%.80s", what,
              ret == NULL ? ": " : "", why.message);
    json_decref(ret);
    return NULL;
}

bool notification_text(const json_t *object, const char *name, const char **ret, struct error *err)
{
    const json_t *value = json_object_get(object, name);

    *ret = value == NULL ? "" : json_string_value(value);
    return *ret != NULL || error_set(err, ERROR_BAD_REQUEST, "%s is not a string", name);
}

bool notification_resource(const json_t *resource, const char **bucket, const char **name)
{
    const char *in = json_string_value(json_object_get(resource, "bucket"));
    const char *called = json_string_value(json_object_get(resource, "name"));

    if (in == NULL || *in == '\0' || called == NULL || *called == '\0')
        return false;
    *bucket = in;
    *name = called;
    return true;
}
