/* GET / for browsers, and the files of its page. The program holds them (page/), so that whoever
 * has the service has the page. */
#include "app.h"
#include "base/strings.h"

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

static struct reply reply_file(const struct request *req, const struct page_file *file)
{
    const struct bytes text = {(const uint8_t *)file->text, strlen(file->text)};
    char etag[SHA256_HEX_LEN + 1];
    struct error err = {0};

    if (!string_sha256_hex(&text, 1, etag, &err))
        return reply_error(&err);
    struct reply reply = request_has_etag(req, etag)
                             ? reply_empty(304)
                             : reply_text(200, file->content_type, file->text);
    reply_add_header(&reply, "ETag", "\"%s\"", etag);
    /* asked again each time, so that a page never runs with another release's script */
    reply_add_header(&reply, "Cache-Control", "no-cache");
    reply_add_header(&reply, "Content-Security-Policy", PAGE_POLICY);
    reply_add_header(&reply, "X-Content-Type-Options", "nosniff");
    reply_add_header(&reply, "Referrer-Policy", "no-referrer");
    return reply;
}

struct reply handle_page(const struct app *app, const struct request *req)
{
    struct reply reply =
        request_prefers_html(req) ? reply_file(req, &page_files[0]) : handle_root(app, req);

    reply_add_header(&reply, "Vary", "Accept");
    return reply;
}

struct reply handle_page_file(const struct app *app, const struct request *req)
{
    struct error err = {0};

    (void)app;
    for (size_t i = 0; i < ARRAY_SIZE(page_files); i++)
        if (strcmp(req->argument, page_files[i].extension) == 0)
            return reply_file(req, &page_files[i]);
    error_set(&err, ERROR_NOT_FOUND, "no such path; GET / lists what there is");
    return reply_error(&err);
}
