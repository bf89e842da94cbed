#include "http/h2_fields.h"

#include <ctype.h>
#include <string.h>

enum { FIELD_COST = 32 };

void h2_fields_init(struct h2_fields *f)
{
    *f = (struct h2_fields){.text = BUFFER_MAX(H2_FIELDS_BYTES_MAX)};
}

void h2_fields_done(struct h2_fields *f)
{
    buffer_done(&f->text);
}

static bool add(struct h2_fields *f, struct bytes name, struct bytes value)
{
    struct error err;

    if (!buffer_reserve(&f->text, name.len + value.len + 2, &err))
        return false;
    return buffer_append(&f->text, name.data, name.len, &err) &&
           buffer_append(&f->text, "", 1, &err) &&
           buffer_append(&f->text, value.data, value.len, &err) &&
           buffer_append(&f->text, "", 1, &err);
}

void h2_fields_add(struct h2_fields *f, struct bytes name, struct bytes value)
{
    f->bytes += name.len + value.len + FIELD_COST;
    f->count++;
    /* once it is too large it stays so: what is there is not cut */
    if (f->too_large || f->bytes > H2_FIELDS_BYTES_MAX || f->count > H2_FIELDS_MAX ||
        !add(f, name, value))
        f->too_large = true;
}

/* %XX becomes its byte, and in parameters '+' a blank; what is not hex stays, as in HTTP/1.1. False
 * when there is a NUL in it. */
static bool decode(char *text, bool plus)
{
    char *out = text;

    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2])) {
            const char digits[] = {p[1], p[2], '\0'};
            *out = (char)strtol(digits, NULL, 16);
            p += 2;
            if (*out++ == '\0')
                return false;
        } else {
            *out++ = plus && *p == '+' ? ' ' : *p;
        }
    }
    *out = '\0';
    return true;
}

static bool add_parameter(struct exchange *x, char *text)
{
    static char nothing[] = "";
    char *equals = strchr(text, '=');
    char *value = equals != NULL ? equals + 1 : nothing;

    if (equals != NULL)
        *equals = '\0';
    return decode(text, true) && decode(value, true) &&
           exchange_add_field(&x->query, (struct http_field){.name = text, .value = value});
}

/* Decode the path, and move the parameters behind it into the exchange. */
static void split_target(struct exchange *x, char *target)
{
    char *query = strchr(target, '?'), *rest = query != NULL ? query + 1 : NULL, *one;

    if (strchr(target, ' ') != NULL)
        x->fields_bad = true;
    if (query != NULL)
        *query = '\0';
    if (!decode(target, false))
        x->fields_bad = true;
    while ((one = strsep(&rest, "&")) != NULL)
        if (*one != '\0' && !x->fields_bad && !add_parameter(x, one))
            x->fields_bad = true;
}

void h2_fields_begin(struct h2_fields *f, struct exchange *x)
{
    static char nothing[] = "";
    char *method = nothing, *target = nothing, *authority = NULL;
    char *end = (char *)f->text.data + f->text.len;
    bool host = false;

    for (char *name = (char *)f->text.data; name != NULL && name < end;) {
        char *value = name + strlen(name) + 1;
        if (strcmp(name, ":method") == 0)
            method = value;
        else if (strcmp(name, ":path") == 0)
            target = value;
        else if (strcmp(name, ":authority") == 0)
            authority = value;
        else if (*name != ':' && !exchange_add_field(&x->headers, (struct http_field){name, value}))
            f->too_large = true;
        host = host || strcmp(name, "host") == 0;
        name = value + strlen(value) + 1;
    }
    if (!host && authority != NULL &&
        !exchange_add_field(&x->headers, (struct http_field){"host", authority}))
        f->too_large = true;
    x->headers_too_large = f->too_large;
    split_target(x, target);
    exchange_begin(x, method, target);
}
