#include "base/json.h"

#include "base/xmalloc.h"

/* Jansson 2.14 corrupts memory when an allocation fails in its parser: it ignores that a string did
 * not grow (lex_save). So it never sees one fail. json_cost has charged a foreign text to the
 * budget of memory by then. Before anything else has memory of Jansson's; free is good for a text.
 */
__attribute__((constructor)) static void use_xmalloc(void)
{
    json_set_alloc_funcs(xmalloc, free);
}

json_t *json_read(struct bytes text, size_t flags, struct error *err)
{
    json_error_t why;
    json_t *json =
        json_loadb(text.data != NULL ? (const char *)text.data : "", text.len, flags, &why);

    if (json == NULL)
        error_set(err, ERROR_BAD_REQUEST, "%.120s", why.text);
    return json;
}

bool json_append(json_t *json, struct buffer *out, struct error *err)
{
    CLEANUP_FREE char *text = json_dumps(json, JSON_COMPACT);

    json_decref(json);
    return text != NULL ? buffer_append_str(out, text, err)
                        : error_set(err, ERROR_BAD_REQUEST, "a text is not UTF-8");
}
