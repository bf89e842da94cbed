/* GET / for browsers, and the files of its page. The program holds them (page/), so that whoever
 * has the service has the page. */
#include "app.h"
#include "base/log.h"
#include "base/strings.h"
#include "http/encoding.h"

#include <pthread.h>
#include <string.h>

EMBED_FILE(page_html, "preprocess_service/page/page.html");
EMBED_FILE(page_css, "preprocess_service/page/page.css");
EMBED_FILE(page_js, "preprocess_service/page/page.js");
EMBED_FILE(page_svg, "preprocess_service/page/page.svg");
EMBED_FILE(gallery_html, "preprocess_service/page/page.gallery.html");
EMBED_FILE(gallery_css, "preprocess_service/page/page.gallery.css");
EMBED_FILE(gallery_js, "preprocess_service/page/page.gallery.js");

static const struct page_file {
    const char *extension, *content_type, *text;
} page_files[] = {
    {"html", "text/html; charset=utf-8", page_html},
    {"css", "text/css; charset=utf-8", page_css},
    {"js", "text/javascript; charset=utf-8", page_js},
    {"svg", "image/svg+xml", page_svg},
    {"gallery.html", "text/html; charset=utf-8", gallery_html},
    {"gallery.css", "text/css; charset=utf-8", gallery_css},
    {"gallery.js", "text/javascript; charset=utf-8", gallery_js},
};

/* Pictures are this service's own, or made of its replies (blob:). */
#define PAGE_POLICY                                                                                \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "              \
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/* Made at the first request. */
static pthread_once_t forms_once = PTHREAD_ONCE_INIT;
static struct form {
    char etag[SHA256_HEX_LEN + 1]; /* "": it failed */
    struct buffer packed;          /* empty: out of memory */
} forms[ARRAY_SIZE(page_files)];

static void make_forms(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(page_files); i++) {
        const struct bytes text = bytes_from_str(page_files[i].text);
        struct error why;
        if (!string_sha256_hex(&text, 1, forms[i].etag, &why) ||
            !body_pack(text, CODING_GZIP, &forms[i].packed, &why))
            log_warning("a file of the page is served without gzip",
                        F("error", (const char *)why.message));
    }
}

static struct reply reply_file(const struct request *req, size_t i)
{
    const struct page_file *file = &page_files[i];
    char etag[sizeof(forms[i].etag) + sizeof("-gzip")];
    struct error err = {0};

    pthread_once(&forms_once, make_forms);
    bool packed = forms[i].packed.len > 0 && encoding_accepted(req) == CODING_GZIP;
    struct buffer body = BUFFER_MAX(SIZE_MAX / 2);
    struct bytes bytes = packed ? buffer_view(&forms[i].packed) : bytes_from_str(file->text);
    snprintf(etag, sizeof(etag), "%s%s", forms[i].etag, packed ? "-gzip" : "");
    bool unchanged = *forms[i].etag != '\0' && request_has_etag(req, etag);
    if (!unchanged && !buffer_append(&body, bytes.data, bytes.len, &err))
        return reply_error(&err);
    struct reply reply =
        unchanged ? reply_empty(304) : reply_buffer(200, file->content_type, &body);
    if (*forms[i].etag != '\0')
        reply_add_header(&reply, "ETag", "\"%s\"", etag);
    if (packed && !unchanged)
        reply_add_header(&reply, "Content-Encoding", "gzip");
    /* asked again each time, so that a page never runs with another release's script */
    reply_add_header(&reply, "Cache-Control", "no-cache");
    reply_add_header(&reply, "Content-Security-Policy", PAGE_POLICY);
    reply_add_header(&reply, "X-Content-Type-Options", "nosniff");
    reply_add_header(&reply, "Referrer-Policy", "no-referrer");
    return reply;
}

struct reply handle_page(const struct app *app, const struct request *req)
{
    bool html = request_prefers_html(req);
    struct reply reply = html ? reply_file(req, 0) : handle_root(app, req);

    reply_add_header(&reply, "Vary", "%s", html ? "Accept, Accept-Encoding" : "Accept");
    return reply;
}

struct reply handle_page_file(const struct app *app, const struct request *req)
{
    struct error err = {0};

    (void)app;
    for (size_t i = 0; i < ARRAY_SIZE(page_files); i++)
        if (strcmp(req->argument, page_files[i].extension) == 0) {
            struct reply reply = reply_file(req, i);
            reply_add_header(&reply, "Vary", "Accept-Encoding");
            return reply;
        }
    error_set(&err, ERROR_NOT_FOUND, "no such path; /openapi.json lists the paths");
    return reply_error(&err);
}
