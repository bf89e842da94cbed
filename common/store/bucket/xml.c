#include "store/bucket/xml.h"

#include <expat.h>
#include <limits.h>
#include <string.h>

enum { TEXT_MAX = 8192, PATH_BYTES_MAX = 512 };

struct reader {
    XML_Parser parser;
    xml_element_fn fn;
    void *ctx;
    struct buffer path; /* "A/B/C" */
    struct buffer text; /* of the innermost element, since its last child */
    struct error err;
    bool stopped; /* by fn, without an error */
};

static void stop(struct reader *r)
{
    XML_StopParser(r->parser, XML_FALSE);
}

static void on_start(void *data, const char *name, const char **attributes)
{
    struct reader *r = data;

    (void)attributes;
    r->text.len = 0;
    if ((r->path.len > 0 && !buffer_append(&r->path, "/", 1, &r->err)) ||
        !buffer_append_str(&r->path, name, &r->err))
        stop(r);
}

static void on_end(void *data, const char *name)
{
    struct reader *r = data;

    if (r->err.code != ERROR_NONE) /* Expat ends an empty element that on_start has stopped at */
        return;
    const char *path = buffer_cstr(&r->path, &r->err);
    const char *text = path != NULL ? buffer_cstr(&r->text, &r->err) : NULL;
    size_t len = strlen(name);

    if (text == NULL || !r->fn(r->ctx, path, text, &r->err)) {
        r->stopped = r->err.code == ERROR_NONE;
        stop(r);
        return;
    }
    r->path.len -= r->path.len > len ? len + 1 : len;
    r->text.len = 0;
}

static void on_text(void *data, const char *text, int len)
{
    struct reader *r = data;

    if (!buffer_append(&r->text, text, (size_t)len, &r->err))
        stop(r);
}

static void on_doctype(void *data, const char *name, const char *system_id, const char *public_id,
                       int has_internal_subset)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_internal_subset;
    stop(data);
}

bool xml_read(struct bytes document, xml_element_fn fn, void *ctx, struct error *err)
{
    struct reader r = {
        .parser = XML_ParserCreate(NULL),
        .fn = fn,
        .ctx = ctx,
        .path = BUFFER_MAX(PATH_BYTES_MAX),
        .text = BUFFER_MAX(TEXT_MAX),
    };

    if (r.parser == NULL)
        return error_oom(err);
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, on_start, on_end);
    XML_SetCharacterDataHandler(r.parser, on_text);
    XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
    bool ok = document.len < INT_MAX && XML_Parse(r.parser, (const char *)document.data,
                                                  (int)document.len, 1) == XML_STATUS_OK;
    XML_ParserFree(r.parser);
    buffer_done(&r.path);
    buffer_done(&r.text);
    if (r.err.code != ERROR_NONE && r.err.code != ERROR_TOO_LARGE)
        *err = r.err;
    else if (!ok && !r.stopped)
        error_set(err, ERROR_UNAVAILABLE, "the object storage answered with malformed XML");
    return ok;
}
