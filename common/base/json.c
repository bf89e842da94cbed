#include "base/json.h"

#include "base/xmalloc.h"

#include <string.h>

/* What Jansson takes for each, in bytes; it is asked before it is tried (test_json.c). */
enum { VALUE_BYTES = 64, STRING_BYTES = 64, CONTAINER_BYTES = 512 };

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

bool json_is_text(const json_t *value, const char *text)
{
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

int64_t json_cost(struct bytes text)
{
    int64_t values = 0, containers = 0, strings = 0, longest = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        values += c == ',' || c == ':';
        containers += c == '[' || c == '{';
        if (c != '"')
            continue;
        size_t start = ++i;
        while (i < text.len && text.data[i] != '"')
            i += text.data[i] == '\\' ? 2 : 1;
        int64_t len = (int64_t)(i - start);
        strings += STRING_BYTES + len;
        longest = len > longest ? len : longest;
    }
    /* the parser's buffer for a string grows by doubling, and is copied then */
    return VALUE_BYTES * values + CONTAINER_BYTES * containers + strings + 3 * longest;
}
