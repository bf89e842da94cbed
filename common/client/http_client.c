#include "client/http_client.h"

#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <curl/curl.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    IDLE_MAX = 64, /* multi handles kept, each with its connections; more may be in use */
    CONNECT_MAX_MS = 5000,
    ROUNDING_MS = 5, /* libcurl's timer may fire this early */
    REPLY_HEADERS_MAX_BYTES = 64 * 1024,
    PEER_MAX = 128,
};

struct http_client {
    atomic_uint owners;
    char *ca_file;
    const struct clock_cut *cut;
    pthread_mutex_t lock;
    CURLM *idle[IDLE_MAX]; /* they keep the connections */
    size_t idle_count;
};

/* One call under way, as the callbacks see it. */
struct transfer {
    CURL *easy;
    CURLM *multi;
    const struct http_call *call;
    const struct clock_cut *cut;
    struct http_reply reply;
    unsigned header_count;
    bool headers_complete;
    struct error err; /* set by a callback that stops the transfer */
    char peer[PEER_MAX];
    char tls_detail[CURL_ERROR_SIZE];
};

static void cleanup_url(CURLU **url)
{
    curl_url_cleanup(*url);
}

static void cleanup_curl_string(char **s)
{
    curl_free(*s);
}

static CURLcode global_result;

static void global_init(void)
{
    global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* By the first call: what never calls starts without OpenSSL's tables. */
static bool begin(struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, global_init);
    return global_result == CURLE_OK ||
           error_set(err, ERROR_INTERNAL, "libcurl: %s", curl_easy_strerror(global_result));
}

/* A CA file that cannot be used is found at start, not at the first call. */
static bool check_ca_file(const char *path, struct error *err)
{
    X509_STORE *store = X509_STORE_new();
    bool ok = store != NULL && X509_STORE_load_file(store, path) == 1;

    X509_STORE_free(store);
    return ok || error_set(err, ERROR_CONFIG, "no CA certificates can be read from %s", path);
}

struct http_client *http_client_new(const struct http_client_options *options, struct error *err)
{
    const char *ca_file = options->ca_file;
    bool own_ca = ca_file != NULL && *ca_file != '\0';

    if (own_ca && !check_ca_file(ca_file, err))
        return NULL;
    struct http_client *client = xcalloc(1, sizeof(*client));
    if (own_ca)
        client->ca_file = xstrdup(ca_file);
    client->owners = 1;
    client->cut = options->cut;
    pthread_mutex_init(&client->lock, NULL);
    return client;
}

struct http_client *http_client_share(struct http_client *client)
{
    atomic_fetch_add(&client->owners, 1);
    return client;
}

void http_client_free(struct http_client *client)
{
    if (client == NULL || atomic_fetch_sub(&client->owners, 1) > 1)
        return;
    for (size_t i = 0; i < client->idle_count; i++)
        curl_multi_cleanup(client->idle[i]);
    pthread_mutex_destroy(&client->lock);
    free(client->ca_file);
    free(client);
}

/* The last one returned: its connections are the least likely to have been closed by the peer. */
static CURLM *multi_take(struct http_client *client)
{
    CURLM *multi = NULL;

    pthread_mutex_lock(&client->lock);
    if (client->idle_count > 0)
        multi = client->idle[--client->idle_count];
    pthread_mutex_unlock(&client->lock);
    return multi != NULL ? multi : curl_multi_init();
}

static void multi_give(struct http_client *client, CURLM *multi)
{
    pthread_mutex_lock(&client->lock);
    bool keep = multi != NULL && client->idle_count < IDLE_MAX;
    if (keep)
        client->idle[client->idle_count++] = multi;
    pthread_mutex_unlock(&client->lock);
    if (!keep)
        curl_multi_cleanup(multi);
}

/* Check the URL and name its peer, without userinfo, path and query: those may be secrets. */
static bool parse_url(const char *text, char peer[PEER_MAX], bool *is_https, struct error *err)
{
    CLEANUP(cleanup_url) CURLU *url = curl_url();
    CLEANUP(cleanup_curl_string) char *scheme = NULL;
    CLEANUP(cleanup_curl_string) char *host = NULL;
    CLEANUP(cleanup_curl_string) char *port = NULL;

    if (url == NULL)
        return error_oom(err);
    for (const char *p = text; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            return error_set(err, ERROR_BAD_REQUEST, "a URL with a character to be encoded");
    CURLUcode code = curl_url_set(url, CURLUPART_URL, text, CURLU_PATH_AS_IS);
    code = code == CURLUE_OK ? curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) : code;
    code = code == CURLUE_OK ? curl_url_get(url, CURLUPART_HOST, &host, 0) : code;
    code = code == CURLUE_OK ? curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) : code;
    if (code != CURLUE_OK)
        return code == CURLUE_OUT_OF_MEMORY ? error_oom(err)
                                            : error_set(err, ERROR_BAD_REQUEST, "not a valid URL");
    *is_https = strcmp(scheme, "https") == 0;
    if (!*is_https && strcmp(scheme, "http") != 0)
        return error_set(err, ERROR_BAD_REQUEST, "neither an http nor an https URL");
    snprintf(peer, PEER_MAX, "%s:%s", host, port);
    return true;
}

static bool append_line(struct curl_slist **list, const char *line, struct error *err)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (longer == NULL)
        return error_oom(err);
    *list = longer;
    return true;
}

static bool append_header(struct curl_slist **list, const char *line, struct error *err)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t name_len = strspn(line, token);

    if (name_len == 0 || line[name_len] != ':')
        return error_set(err, ERROR_BAD_REQUEST, "a malformed header name");
    for (const char *p = line; *p != '\0'; p++)
        if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
            return error_set(err, ERROR_BAD_REQUEST, "a control character in header %.*s",
                             (int)name_len, line);
    if (strncasecmp(line, "Content-Length:", name_len + 1) == 0 ||
        strncasecmp(line, "Transfer-Encoding:", name_len + 1) == 0)
        return error_set(err, ERROR_BAD_REQUEST, "header %.*s is the client's own", (int)name_len,
                         line);
    const char *value = line + name_len + 1;
    if (value[strspn(value, " \t")] != '\0')
        return append_line(list, line, err);
    /* to libcurl "Name:" means "leave it out", "Name;" an empty value */
    CLEANUP_FREE char *empty = xasprintf("%.*s;", (int)name_len, line);
    return append_line(list, empty, err);
}

static bool build_headers(const struct http_call *call, struct curl_slist **list, struct error *err)
{
    /* what libcurl would add by itself; Host, User-Agent and Content-Length remain */
    if (!append_line(list, "Accept:", err) || !append_line(list, "Content-Type:", err) ||
        !append_line(list, "Expect:", err))
        return false;
    for (size_t i = 0; call->headers != NULL && call->headers[i] != NULL; i++)
        if (!append_header(list, call->headers[i], err))
            return false;
    return true;
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    struct buffer *headers = &t->reply.headers;
    size_t len = size * count;
    size_t all = len;

    while (len > 0 && strchr("\r\n \t", line[len - 1]) != NULL)
        len--;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) { /* again after each 1xx */
        headers->len = 0;
        t->header_count = 0;
        t->headers_complete = false;
        return all;
    }
    if (all > 0 && (line[0] == '\r' || line[0] == '\n')) /* one of blanks is a folded one */
        t->headers_complete = true;
    char *colon = memchr(line, ':', len);
    if ((t->headers_complete && !t->call->h2) || colon == NULL || colon == line)
        return all;
    for (char *p = line; p < colon; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + ('a' - 'A') : *p);
    const char *value = colon + 1;
    while (value < line + len && (*value == ' ' || *value == '\t'))
        value++;
    if (++t->header_count <= HTTP_REPLY_HEADERS_MAX &&
        buffer_append(headers, line, (size_t)(colon - line), &t->err) &&
        buffer_append(headers, ": ", 2, &t->err) &&
        buffer_append(headers, value, (size_t)(line + len - value), &t->err) &&
        buffer_append(headers, "\n", 1, &t->err))
        return all;
    error_set(&t->err, ERROR_UNAVAILABLE, "the reply's headers are too large");
    return 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    struct buffer *body = &t->reply.body;
    size_t len = size * count;
    curl_off_t announced = 0;

    /* one allocation of the right size, when it is known; the body still decides */
    if (body->len == 0 &&
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced) == CURLE_OK &&
        announced > 0 && !buffer_reserve(body, (size_t)announced, &t->err))
        return 0;
    return buffer_append(body, data, len, &t->err) ? len : 0;
}

#define SET(option, value) rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value)

/* libcurl counts whole seconds. */
static long seconds(int64_t ms)
{
    return (long)(ms < INT32_MAX ? (ms + 999) / 1000 : INT32_MAX / 1000);
}

static CURLcode set_connection(CURL *easy, const struct http_client *client, bool is_https,
                               int64_t left_ms)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a hanging name server cannot hold us past the deadline */
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (!is_https)
        SET(CURLOPT_PROXY, "");
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (client->ca_file != NULL) {
        SET(CURLOPT_CAINFO, client->ca_file);
        SET(CURLOPT_CAPATH, NULL);
    }
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(left_ms < CONNECT_MAX_MS ? left_ms : CONNECT_MAX_MS));
    SET(CURLOPT_TIMEOUT_MS, (long)(left_ms < INT32_MAX ? left_ms : INT32_MAX));
    return rc;
}

static CURLcode set_request(CURL *easy, struct transfer *t, struct curl_slist *headers)
{
    const struct http_call *call = t->call;
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_URL, call->url);
    SET(CURLOPT_HTTP_VERSION,
        (long)(call->h2 ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_1_1));
    SET(CURLOPT_FORBID_REUSE, (long)call->h2);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_USERAGENT, "darkroom/" DARKROOM_VERSION);
    SET(CURLOPT_HTTPHEADER, headers);
    if (strcmp(call->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (call->body.data != NULL || strcmp(call->method, "PUT") == 0 ||
               strcmp(call->method, "POST") == 0) { /* these always say Content-Length */
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
        SET(CURLOPT_POSTFIELDS, call->body.data != NULL ? (const char *)call->body.data : "");
    }
    if (strcmp(call->method, "HEAD") != 0)
        SET(CURLOPT_CUSTOMREQUEST, call->method);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_ERRORBUFFER, t->tls_detail);
    if (call->silence_ms > 0) {
        SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
        SET(CURLOPT_LOW_SPEED_TIME, seconds(call->silence_ms));
    }
    return rc;
}

static int64_t left_ms(const struct transfer *t)
{
    if (t->call->gone != NULL && atomic_load(t->call->gone))
        return 0;
    return clock_left_ms(clock_cut_deadline(t->cut, t->call->deadline_ms));
}

/* libcurl's own detail is repeated for TLS only: others can quote a proxy URL and its password. */
static bool fail(const struct transfer *t, CURLcode rc, struct error *err)
{
    long number = 0;
    curl_off_t sent_us = 0;

    if (t->err.code != ERROR_NONE) {
        *err = t->err;
        return error_wrap(err, "%s", t->peer);
    }
    if (rc == CURLE_OUT_OF_MEMORY)
        return error_oom(err);
    if (rc == CURLE_OPERATION_TIMEDOUT && left_ms(t) <= ROUNDING_MS)
        return error_set(err, ERROR_DEADLINE, "%s: no complete reply before the deadline", t->peer);
    if (rc == CURLE_OPERATION_TIMEDOUT &&
        curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &sent_us) == CURLE_OK &&
        sent_us > 0)
        return error_set(err, ERROR_UNAVAILABLE, "%s: silent for %ld s", t->peer,
                         seconds(t->call->silence_ms));
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return error_set(err, ERROR_UNAVAILABLE, "%s: no connection within %d ms", t->peer,
                         CONNECT_MAX_MS);
    if ((rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CONNECT_ERROR) &&
        t->tls_detail[0] != '\0')
        return error_set(err, ERROR_UNAVAILABLE, "%s: %s", t->peer, t->tls_detail);
    if (rc == CURLE_COULDNT_CONNECT &&
        curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &number) == CURLE_OK && number != 0)
        return error_set(err, ERROR_UNAVAILABLE, "%s: cannot connect: %s", t->peer,
                         strerrordesc_np((int)number));
    return error_set(err, ERROR_UNAVAILABLE, "%s: %s", t->peer, curl_easy_strerror(rc));
}

/* Whether a kept connection died before any of the reply: what libcurl calls a reason to repeat
 * the request when it finds out while reading, but not while sending a body. */
static bool was_stale(CURL *easy, CURLcode rc)
{
    long connects = 1;
    long received = 1;

    return (rc == CURLE_SEND_ERROR || rc == CURLE_RECV_ERROR || rc == CURLE_GOT_NOTHING) &&
           curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects) == CURLE_OK &&
           curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &received) == CURLE_OK && connects == 0 &&
           received == 0;
}

static CURLcode result_of(CURLM *multi)
{
    int left = 0;
    const CURLMsg *message = curl_multi_info_read(multi, &left);

    return message != NULL && message->msg == CURLMSG_DONE ? message->data.result
                                                           : CURLE_OPERATION_TIMEDOUT;
}

/* curl_easy_perform with an eye on the cut. */
static CURLcode run(struct transfer *t)
{
    int running = 1;
    CURLMcode code = curl_multi_add_handle(t->multi, t->easy);

    while (code == CURLM_OK && (code = curl_multi_perform(t->multi, &running)) == CURLM_OK &&
           running > 0 && left_ms(t) > 0)
        code = curl_multi_poll(t->multi, NULL, 0, CLOCK_CUT_LOOK_MS, NULL);
    CURLcode rc = code == CURLM_OK ? result_of(t->multi) : CURLE_FAILED_INIT;
    curl_multi_remove_handle(t->multi, t->easy);
    return rc;
}

static CURLcode send_and_receive(struct http_client *client, struct transfer *t, bool is_https,
                                 struct curl_slist *headers)
{
    CURL *easy = t->easy;
    CURLcode rc = set_request(easy, t, headers);

    for (int attempt = 0; attempt < 2 && rc == CURLE_OK; attempt++) {
        int64_t left = left_ms(t);
        if (left == 0)
            return CURLE_OPERATION_TIMEDOUT;
        SET(CURLOPT_FRESH_CONNECT, (long)(attempt > 0 || t->call->h2));
        rc = rc != CURLE_OK ? rc : set_connection(easy, client, is_https, left);
        rc = rc != CURLE_OK ? rc : run(t);
        if (!was_stale(easy, rc))
            break;
        rc = attempt == 0 ? CURLE_OK : rc;
    }
    if (rc == CURLE_OK)
        rc = curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &t->reply.status);
    /* to libcurl headers that end early are a reply */
    if (rc == CURLE_OK && (!t->headers_complete || t->reply.status < 200 || t->reply.status > 999))
        rc = CURLE_PARTIAL_FILE;
    return rc;
}

static bool perform(struct http_client *client, struct transfer *t, struct error *err)
{
    struct curl_slist *headers = NULL;
    bool is_https = false;

    if (*t->call->method == '\0' ||
        t->call->method[strspn(t->call->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] != '\0')
        return error_set(err, ERROR_BAD_REQUEST, "not an HTTP method");
    bool ok =
        parse_url(t->call->url, t->peer, &is_https, err) && build_headers(t->call, &headers, err);
    CURLcode rc = ok ? send_and_receive(client, t, is_https, headers) : CURLE_OK;
    curl_slist_free_all(headers);
    return ok && (rc == CURLE_OK || fail(t, rc, err));
}

/* The easy handle is new each time: one that is used again is left, by libcurl up to 8.1.0, with a
 * pointer to the last reply's freed headers, which a reply that begins with a folded header makes
 * it write to (https://github.com/curl/curl/issues/11101). */
bool http_client_call(struct http_client *client, const struct http_call *call,
                      struct http_reply *ret, struct error *err)
{
    if (!begin(err))
        return false;
    struct transfer t = {
        .easy = curl_easy_init(),
        .multi = multi_take(client),
        .call = call,
        .cut = client->cut,
        .reply = {.body = {.max = call->max_reply_bytes},
                  .headers = {.max = REPLY_HEADERS_MAX_BYTES}},
    };

    bool ok = t.easy != NULL && t.multi != NULL ? perform(client, &t, err) : error_oom(err);
    curl_easy_cleanup(t.easy);
    multi_give(client, t.multi);
    if (ok)
        *ret = t.reply;
    else
        http_reply_done(&t.reply);
    return ok;
}
