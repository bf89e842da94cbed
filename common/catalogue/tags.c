/* Tags: the labels of the result, with confidence, and the owner's own. */
#include "catalogue/catalogue_internal.h"

#include <string.h>

static json_t *array_of(const char *text)
{
    struct error ignored = {0};
    json_t *json = text != NULL ? json_read(bytes_from_str(text), 0, &ignored) : NULL;

    return json_is_array(json) ? json : (json_decref(json), json_array());
}

/* Of a label ["name", confidence], or of a tag "name". */
static const char *name_of(const json_t *entry)
{
    return json_string_value(json_is_array(entry) ? json_array_get(entry, 0) : entry);
}

static bool each(struct db_session *s, const char *sql, int64_t seq, const char *text,
                 struct error *err)
{
    json_t *array = array_of(text);
    bool ok = true;

    for (size_t i = 0; ok && i < json_array_size(array); i++) {
        const char *name = name_of(json_array_get(array, i));
        ok = name == NULL || db_run(s, sql, DB_ARGS(db_text(name), db_int(seq)), NULL, err);
    }
    json_decref(array);
    return ok;
}

bool catalogue_tags_replace(struct db_session *s, int64_t seq, const char *const before[2],
                            const char *const after[2], struct error *err)
{
    static const char drop[] = "DELETE FROM image_tag WHERE tag = ?1 AND seq = ?2";
    static const char put[] =
        "INSERT INTO image_tag (tag, seq) VALUES (?1, ?2) ON CONFLICT (tag, seq) DO NOTHING";

    return each(s, drop, seq, before[0], err) && each(s, drop, seq, before[1], err) &&
           each(s, put, seq, after[0], err) && each(s, put, seq, after[1], err);
}

static void append(json_t *out, const char *name, json_t *confidence)
{
    if (name == NULL)
        json_decref(confidence);
    else
        json_array_append_new(out, json_pack("{s:s, s:o}", "tag", name, "confidence", confidence));
}

json_t *catalogue_tags_json(const char *labels, const char *tags)
{
    json_t *from_result = array_of(labels), *own = array_of(tags), *out = json_array();

    for (size_t i = 0; i < json_array_size(own); i++)
        append(out, name_of(json_array_get(own, i)), json_null());
    for (size_t i = 0; i < json_array_size(from_result); i++) {
        const json_t *label = json_array_get(from_result, i);
        append(out, name_of(label), json_real(json_number_value(json_array_get(label, 1))));
    }
    json_decref(from_result);
    json_decref(own);
    return out;
}
