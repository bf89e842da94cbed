#include "http/request.h"

#include "base/strings.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char *find(const struct http_field *fields, size_t count, const char *name,
                        int (*compare)(const char *, const char *))
{
    for (size_t i = 0; i < count; i++)
        if (compare(fields[i].name, name) == 0)
            return fields[i].value;
    return NULL;
}

const char *request_header(const struct request *req, const char *name)
{
    return find(req->headers, req->header_count, name, strcasecmp);
}

static size_t count_of(const struct request *req, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < req->header_count; i++)
        n += strcasecmp(req->headers[i].name, name) == 0;
    return n;
}

const char *request_only_header(const struct request *req, const char *name)
{
    return count_of(req, name) == 1 ? request_header(req, name) : NULL;
}

const char *request_query(const struct request *req, const char *name)
{
    return find(req->query, req->query_count, name, strcmp);
}

/* The first address in `text`. Some proxies write "IPv4:port", "[IPv6]" or "[IPv6]:port". */
static void copy_address(const char *text, char out[PEER_MAX])
{
    size_t len = strcspn(text, ", "), host = strcspn(text, ":, ");

    if (*text == '[' && strcspn(text + 1, "], ") > 0)
        len = strcspn(++text, "], ");
    else if (host > 0 && host < len && memchr(text + host + 1, ':', len - host - 1) == NULL)
        len = host;
    snprintf(out, PEER_MAX, "%.*s", (int)len, text);
}

/* Each proxy adds the address of who asked it at the end: the one that many from there is the
 * client's. What stands before it the client may have made up. */
void request_client_address(const struct request *req, int64_t proxies, char out[PEER_MAX])
{
    snprintf(out, PEER_MAX, "%s", req->peer);
    for (size_t i = req->header_count; i > 0 && proxies > 0; i--) {
        if (strcasecmp(req->headers[i - 1].name, "X-Forwarded-For") != 0)
            continue;
        const char *value = req->headers[i - 1].value;
        for (size_t end = strlen(value); end > 0 && proxies > 0;) {
            size_t begin = end;
            while (begin > 0 && value[begin - 1] != ',')
                begin--;
            size_t blanks = strspn(value + begin, " ");
            if (--proxies == 0 && begin + blanks < end)
                copy_address(value + begin + blanks, out);
            end = begin > 0 ? begin - 1 : 0;
        }
    }
}

bool request_has_no_query(const struct request *req, struct error *err)
{
    return req->query_count == 0 ||
           error_set(err, ERROR_BAD_REQUEST, "%.64s: no such option", req->query[0].name);
}

bool request_expects_body(const struct request *req)
{
    const char *length = request_header(req, "Content-Length");

    return request_header(req, "Transfer-Encoding") != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

void request_media_type(const struct request *req, char out[MEDIA_TYPE_MAX])
{
    const char *value = request_header(req, "Content-Type");
    size_t len = value != NULL ? strcspn(value, "; \t") : 0;

    if (len >= MEDIA_TYPE_MAX)
        len = 0;
    for (size_t i = 0; i < len; i++)
        out[i] = (char)tolower((unsigned char)value[i]);
    out[len] = '\0';
}

/* The q that Accept gives to a type by its name; 0 when it does not name it. */
static double accepted(const struct request *req, const char *type)
{
    const char *accept = request_header(req, "Accept");

    for (const char *p = accept != NULL ? accept : ""; *p != '\0'; p += strspn(p, ", \t")) {
        size_t item = strcspn(p, ","), name = strcspn(p, ",; \t");
        if (name == strlen(type) && strncasecmp(p, type, name) == 0) {
            const char *q = memmem(p, item, "q=", 2);
            return q != NULL ? strtod(q + 2, NULL) : 1;
        }
        p += item;
    }
    return 0;
}

bool request_prefers_html(const struct request *req)
{
    return accepted(req, "text/html") > accepted(req, "application/json");
}

bool request_framing_check(const struct request *req, bool http_1_0, int64_t *content_length,
                           struct error *err)
{
    static const char *const once[] = {"Content-Length", "Host", "Transfer-Encoding",
                                       "Content-Type"};
    const char *encoding = request_header(req, "Transfer-Encoding");
    const char *length = request_header(req, "Content-Length");

    *content_length = 0;
    for (size_t i = 0; i < ARRAY_SIZE(once); i++)
        if (count_of(req, once[i]) > 1)
            return error_set(err, ERROR_BAD_REQUEST, "more than one %s header", once[i]);
    if (!http_1_0 && request_header(req, "Host") == NULL) /* RFC 9112, 3.2 */
        return error_set(err, ERROR_BAD_REQUEST, "no Host header");
    if (length != NULL &&
        (*length == '-' || !string_to_int64(length, 0, INT64_MAX, content_length))) /* "-0" */
        return error_set(err, ERROR_BAD_REQUEST, "Content-Length is not a number");
    if (encoding == NULL)
        return true;
    if (http_1_0)
        return error_set(err, ERROR_BAD_REQUEST, "Transfer-Encoding in an HTTP/1.0 request");
    if (strcasecmp(encoding, "chunked") != 0)
        return error_set(err, ERROR_BAD_REQUEST, "Transfer-Encoding must be chunked");
    if (length != NULL)
        return error_set(err, ERROR_BAD_REQUEST,
                         "Content-Length and Transfer-Encoding in one request");
    return true;
}

static bool parse_number(const char **p, uint64_t *ret)
{
    char digits[20];
    size_t len = strspn(*p, "0123456789");
    int64_t value;

    if (len == 0 || len >= sizeof(digits))
        return false;
    memcpy(digits, *p, len);
    digits[len] = '\0';
    if (!string_to_int64(digits, 0, INT64_MAX, &value))
        return false;
    *ret = (uint64_t)value;
    *p += len;
    return true;
}

struct byte_range range_parse(const char *header, uint64_t size)
{
    struct byte_range whole = {.kind = RANGE_NONE};
    struct byte_range none = {.kind = RANGE_UNSATISFIABLE};
    uint64_t first, last;

    if (header == NULL || strncasecmp(header, "bytes=", 6) != 0)
        return whole;
    const char *p = header + 6;
    if (*p == '-') { /* the last N bytes */
        p++;
        if (!parse_number(&p, &last) || *p != '\0')
            return whole;
        if (last == 0 || size == 0)
            return none;
        first = last < size ? size - last : 0;
        return (struct byte_range){.kind = RANGE_ONE, .first = first, .last = size - 1};
    }
    if (!parse_number(&p, &first) || *p++ != '-')
        return whole;
    last = UINT64_MAX;
    if (*p != '\0' && (!parse_number(&p, &last) || *p != '\0' || last < first))
        return whole;
    if (first >= size)
        return none;
    if (last >= size)
        last = size - 1;
    return (struct byte_range){.kind = RANGE_ONE, .first = first, .last = last};
}

bool etag_matches(const char *if_none_match, const char *etag)
{
    size_t len = strlen(etag);

    if (if_none_match == NULL)
        return false;
    if (strcmp(if_none_match, "*") == 0)
        return true;
    for (const char *p = strchr(if_none_match, '"'); p != NULL; p = strchr(p, '"')) {
        const char *end = strchr(p + 1, '"');
        if (end == NULL)
            return false;
        if ((size_t)(end - p - 1) == len && strncmp(p + 1, etag, len) == 0)
            return true;
        p = end + 1;
    }
    return false;
}

bool request_has_etag(const struct request *req, const char *etag)
{
    for (size_t i = 0; i < req->header_count; i++)
        if (strcasecmp(req->headers[i].name, "If-None-Match") == 0 &&
            etag_matches(req->headers[i].value, etag))
            return true;
    return false;
}
