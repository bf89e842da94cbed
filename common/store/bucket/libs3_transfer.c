#include "store/bucket/libs3_transfer.h"

#include "base/strings.h"

#include <ctype.h>
#include <curl/curl.h>
#include <string.h>
#include <time.h>

enum {
    CONNECT_MS = 5000,
    SILENCE_S = 10,
    HEADER_BYTES_MAX = 64 * 1024,
};

/* What our copy of libs3 calls instead of curl_multi_add_handle, curl_multi_info_read, gmtime and
 * its own urlEncode; between libs3_transfer_enter(t) and (NULL) only. */
CURLMcode libs3_add_handle(CURLM *multi, CURL *easy);
CURLMsg *libs3_info_read(CURLM *multi, int *left);
struct tm *libs3_gmtime(const time_t *time);
int libs3_url_encode(char *out, const char *text, int max);

/* libs3's reader of XML: linked, it would bring libxml2 and ICU into every start. No reply reaches
 * it, since on_body takes them all. */
void simplexml_initialize(void *reader, void *callback, void *ctx);
int simplexml_add(void *reader, const char *data, int len);
void simplexml_deinitialize(void *reader);

static _Thread_local struct libs3_transfer *current;

void libs3_transfer_enter(struct libs3_transfer *t)
{
    current = t;
}

/* For the Date that is signed. libs3 uses the result at once, and only on this thread. */
struct tm *libs3_gmtime(const time_t *time)
{
    static _Thread_local struct tm tm;
    time_t theirs = *time + (time_t)current->skew_s;

    return gmtime_r(&theirs, &tm);
}

/* For keys, in the URL and in what is signed. `out` holds 3 * max + 1 bytes. 0: too long. */
int libs3_url_encode(char *out, const char *text, int max)
{
    const size_t room = 3 * (size_t)max;
    struct buffer encoded = {.data = (uint8_t *)out, .cap = room, .max = room};
    struct error ignored;

    bool ok = text == NULL ||
              (strlen(text) <= (size_t)max && string_percent_encode(text, "/", &encoded, &ignored));
    out[encoded.len] = '\0';
    return ok;
}

void simplexml_initialize(void *reader, void *callback, void *ctx)
{
    (void)reader;
    (void)callback;
    (void)ctx;
}

int simplexml_add(void *reader, const char *data, int len)
{
    (void)reader;
    (void)data;
    (void)len;
    return 1; /* S3StatusInternalError */
}

void simplexml_deinitialize(void *reader)
{
    (void)reader;
}

static size_t on_send(char *out, size_t size, size_t count, void *ctx)
{
    struct libs3_transfer *t = ctx;
    size_t left = t->body.len - t->sent;
    size_t len = size * count < left ? size * count : left;

    if (len > 0)
        memcpy(out, t->body.data + t->sent, len);
    t->sent += len;
    return len;
}

/* A kept connection turned out to be closed: from the beginning on a new one. */
static int on_seek(void *ctx, curl_off_t offset, int origin)
{
    struct libs3_transfer *t = ctx;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body.len)
        return CURL_SEEKFUNC_FAIL;
    t->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static bool too_large(struct libs3_transfer *t)
{
    return error_set(&t->err, ERROR_TOO_LARGE, "the reply has more than %zu bytes",
                     t->max_reply_bytes);
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct libs3_transfer *t = ctx;
    size_t len = size * count;
    curl_off_t announced = -1;

    t->reply.body.max = t->max_reply_bytes;
    bool ok = len <= t->max_reply_bytes - t->reply.body.len || too_large(t);
    if (ok && t->reply.body.data == NULL &&
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced) == CURLE_OK &&
        announced > 0)
        ok = (uint64_t)announced <= t->max_reply_bytes
                 ? buffer_reserve(&t->reply.body, (size_t)announced, &t->err)
                 : too_large(t);
    return ok && buffer_append(&t->reply.body, data, len, &t->err) ? len : 0;
}

/* libs3's own reading of headers is not safe; ours comes after the transfer. To libcurl headers
 * that end early are a reply. */
static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    struct libs3_transfer *t = ctx;
    size_t len = size * count;

    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) /* again after each 1xx */
        t->headers_complete = false;
    else if (len > 0 && (data[0] == '\r' || data[0] == '\n'))
        t->headers_complete = true;
    return len;
}

static bool adopt(struct libs3_transfer *t, CURL *easy)
{
    CURLcode rc = CURLE_OK;

#define SET(option, value) rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value)
    if (t->url != NULL)
        SET(CURLOPT_URL, t->url);
    SET(CURLOPT_PROTOCOLS_STR, "http");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, ""); /* none, whatever the environment says */
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a hanging name server cannot hold us past the deadline */
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->body.len);
    SET(CURLOPT_READFUNCTION, on_send);
    SET(CURLOPT_READDATA, t);
    SET(CURLOPT_SEEKFUNCTION, on_seek);
    SET(CURLOPT_SEEKDATA, t);
#undef SET
    return rc == CURLE_OK;
}

CURLMcode libs3_add_handle(CURLM *multi, CURL *easy)
{
    /* libs3 uses its handles again, which is not safe (client/http_client.c): what runs is a copy
     */
    CURL *copy = curl_easy_duphandle(easy);
    if (copy == NULL || !adopt(current, copy)) {
        curl_easy_cleanup(copy);
        return CURLM_OUT_OF_MEMORY;
    }
    current->multi = multi;
    current->easy = copy;
    return curl_multi_add_handle(multi, copy);
}

void libs3_transfer_done(struct libs3_transfer *t)
{
    if (t->easy == NULL)
        return;
    curl_multi_remove_handle(t->multi, t->easy);
    curl_easy_cleanup(t->easy);
    t->easy = NULL;
}

CURLMsg *libs3_info_read(CURLM *multi, int *left)
{
    CURLMsg *message = curl_multi_info_read(multi, left);

    if (message != NULL && message->msg == CURLMSG_DONE) {
        current->result = (int)message->data.result;
        current->ended = true;
    }
    return message;
}

void libs3_transfer_wait(const struct libs3_transfer *t, int64_t ms)
{
    curl_multi_poll(t->multi, NULL, 0, (int)ms, NULL);
}

static bool take_headers(struct libs3_transfer *t)
{
    struct curl_header *h = NULL;

    t->reply.headers.max = HEADER_BYTES_MAX;
    for (size_t i = 0; (h = curl_easy_nextheader(t->easy, CURLH_HEADER, -1, h)) != NULL; i++) {
        size_t from = t->reply.headers.len;
        if (i == HTTP_REPLY_HEADERS_MAX)
            return error_set(&t->err, ERROR_UNAVAILABLE, "too many reply headers");
        if (*h->name == '\0') /* libcurl takes ": x" for a header */
            continue;
        if (!buffer_printf(&t->reply.headers, &t->err, "%s: %s\n", h->name, h->value))
            return false;
        uint8_t *p = t->reply.headers.data + from;
        for (; *p != ':'; p++)
            *p = (uint8_t)tolower(*p);
        /* libcurl leaves the line end in when it folds a line onto an empty value */
        for (; p < t->reply.headers.data + t->reply.headers.len - 1; p++)
            *p = *p == '\n' ? ' ' : *p;
    }
    return true;
}

/* A body that ends where the connection does may have been cut. */
static bool is_framed(const struct libs3_transfer *t)
{
    char text[64];

    return !t->is_get || t->reply.status >= 300 ||
           http_reply_header(&t->reply, "content-length", text, sizeof(text)) ||
           http_reply_header(&t->reply, "transfer-encoding", text, sizeof(text));
}

bool libs3_transfer_complete(struct libs3_transfer *t)
{
    if (!t->ended)
        return false;
    if (t->err.code == ERROR_NONE && t->result != (int)CURLE_OK)
        error_set(&t->err, ERROR_UNAVAILABLE, "%s", curl_easy_strerror((CURLcode)t->result));
    return t->err.code == ERROR_NONE &&
           ((curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->reply.status) == CURLE_OK &&
             t->reply.status >= 200 && t->reply.status <= 999 && t->headers_complete) ||
            error_set(&t->err, ERROR_UNAVAILABLE, "no complete reply")) &&
           take_headers(t) &&
           (is_framed(t) || error_set(&t->err, ERROR_UNAVAILABLE, "a reply of unknown length"));
}
