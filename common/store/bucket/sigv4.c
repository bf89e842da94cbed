#include "store/bucket/sigv4.h"

#include "base/strings.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>
#include <time.h>

enum {
    PAIRS_MAX = 64,
    TEXT_MAX = 64 * 1024,
    SCOPE_MAX = 128,
    SECRET_MAX = 256,
    DAY_LEN = 8, /* "20130524" */
};

static const int64_t last_second = 253402300799; /* of the year 9999 */

static const char algorithm[] = "AWS4-HMAC-SHA256";

/* Headers or query parameters, in the order in which they are signed; views of their owners. */
struct pairs {
    struct {
        struct bytes name, value;
    } at[PAIRS_MAX];
    size_t count;
};

/* One signature in the making. */
struct signing {
    const struct sigv4_key *key;
    const struct sigv4_request *request;
    char date[SIGV4_DATE_LEN];
    char scope[SCOPE_MAX]; /* "20130524/us-east-1/s3/aws4_request" */
    struct pairs headers;
    struct buffer *header_names; /* "host;x-amz-date" */
    char signature[SHA256_HEX_LEN + 1];
};

void sigv4_date(int64_t time_s, char out[SIGV4_DATE_LEN])
{
    time_t t = time_s < 0 ? 0 : time_s > last_second ? last_second : time_s;
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(out, SIGV4_DATE_LEN, "%Y%m%dT%H%M%SZ", &tm);
}

static uint8_t lower(uint8_t c)
{
    return (uint8_t)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Header names are signed, and therefore sorted, in lower case; parameters keep theirs. */
static int compare(struct bytes a, struct bytes b, bool is_header)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        int x = is_header ? lower(a.data[i]) : a.data[i];
        int y = is_header ? lower(b.data[i]) : b.data[i];
        if (x != y)
            return x - y;
    }
    return (a.len > b.len) - (a.len < b.len);
}

/* Sorted by name; parameters then by value, headers of one name stay as they come. */
static bool insert(struct pairs *pairs, struct bytes name, struct bytes value, bool is_header,
                   struct error *err)
{
    size_t i = pairs->count;

    if (i == PAIRS_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d %s to be signed", PAIRS_MAX,
                         is_header ? "headers" : "parameters");
    for (; i > 0; i--) {
        int order = compare(pairs->at[i - 1].name, name, is_header);
        if (order == 0 && !is_header)
            order = compare(pairs->at[i - 1].value, value, false);
        if (order <= 0)
            break;
        pairs->at[i] = pairs->at[i - 1];
    }
    pairs->at[i].name = name;
    pairs->at[i].value = value;
    pairs->count++;
    return true;
}

static bool insert_header(struct signing *s, const char *name, const char *value, struct error *err)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    if (*name == '\0' || name[strspn(name, token)] != '\0')
        return error_set(err, ERROR_BAD_REQUEST, "a malformed header name");
    return insert(&s->headers, bytes_from_str(name), bytes_from_str(value), true, err);
}

static bool append_lower(struct bytes name, struct buffer *out, struct error *err)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = lower(name.data[i]);
        if (!buffer_append(out, &c, 1, err))
            return false;
    }
    return true;
}

/* Headers of one name are signed as one. */
static bool repeats(const struct pairs *headers, size_t i)
{
    /* cppcheck-suppress arrayIndexOutOfBoundsCond ; the callers stay below headers->count */
    return i > 0 && compare(headers->at[i - 1].name, headers->at[i].name, true) == 0;
}

static bool collect_headers(struct signing *s, struct error *err)
{
    const struct sigv4_request *request = s->request;

    if (!insert_header(s, "host", request->host, err))
        return false;
    for (size_t i = 0; i < request->header_count; i++)
        if (!insert_header(s, request->headers[i].name, request->headers[i].value, err))
            return false;
    return true;
}

static bool name_headers(struct signing *s, struct error *err)
{
    const struct pairs *headers = &s->headers;

    for (size_t i = 0; i < headers->count; i++)
        if (!repeats(headers, i) && ((i > 0 && !buffer_append(s->header_names, ";", 1, err)) ||
                                     !append_lower(headers->at[i].name, s->header_names, err)))
            return false;
    return true;
}

/* Trimmed, and runs of white space become one space. */
static bool append_header_value(struct bytes value, struct buffer *out, struct error *err)
{
    size_t start = out->len;

    for (size_t i = 0; i < value.len;) {
        size_t end = i;
        while (end < value.len && !is_space(value.data[end]))
            end++;
        if (end > i && ((out->len > start && !buffer_append(out, " ", 1, err)) ||
                        !buffer_append(out, value.data + i, end - i, err)))
            return false;
        i = end + 1;
    }
    return true;
}

static bool append_headers(const struct pairs *headers, struct buffer *out, struct error *err)
{
    for (size_t i = 0; i < headers->count; i++) {
        bool ok = repeats(headers, i) ? buffer_append(out, ",", 1, err)
                                      : (i == 0 || buffer_append(out, "\n", 1, err)) &&
                                            append_lower(headers->at[i].name, out, err) &&
                                            buffer_append(out, ":", 1, err);
        if (!ok || !append_header_value(headers->at[i].value, out, err))
            return false;
    }
    return buffer_append(out, "\n", 1, err);
}

static bool append_query(const char *query, struct buffer *out, struct error *err)
{
    struct pairs pairs = {0};

    for (const char *p = query; *p != '\0'; p += *p == '&') {
        size_t len = strcspn(p, "&");
        size_t name_len = strcspn(p, "&=");
        size_t value_at = name_len < len ? name_len + 1 : len;
        if (len > 0 && !insert(&pairs, bytes_of(p, name_len),
                               bytes_of(p + value_at, len - value_at), false, err))
            return false;
        p += len;
    }
    for (size_t i = 0; i < pairs.count; i++)
        if ((i > 0 && !buffer_append(out, "&", 1, err)) ||
            !buffer_append(out, pairs.at[i].name.data, pairs.at[i].name.len, err) ||
            !buffer_append(out, "=", 1, err) ||
            !buffer_append(out, pairs.at[i].value.data, pairs.at[i].value.len, err))
            return false;
    return true;
}

/* The SHA-256 of the canonical request. */
static bool hash_request(const struct signing *s, char out[SHA256_HEX_LEN + 1], struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(TEXT_MAX);
    const struct sigv4_request *request = s->request;

    if (!buffer_printf(&text, err, "%s\n%s\n", request->method, request->path) ||
        !append_query(request->query, &text, err) || !buffer_append(&text, "\n", 1, err) ||
        !append_headers(&s->headers, &text, err) || !buffer_append(&text, "\n", 1, err) ||
        !buffer_append(&text, s->header_names->data, s->header_names->len, err) ||
        !buffer_printf(&text, err, "\n%s", request->payload_sha256))
        return false;
    return string_sha256_hex(&(struct bytes){text.data, text.len}, 1, out, err);
}

/* The next key of the chain, in place of the last one. */
static bool derive(uint8_t key[SHA256_SIZE], const char *text, size_t len)
{
    uint8_t digest[SHA256_SIZE];
    bool ok =
        HMAC(EVP_sha256(), key, SHA256_SIZE, (const uint8_t *)text, len, digest, NULL) != NULL;

    memcpy(key, digest, SHA256_SIZE);
    OPENSSL_cleanse(digest, sizeof(digest));
    return ok;
}

static bool sign_text(const struct signing *s, const char *text, char out[SHA256_HEX_LEN + 1])
{
    char secret[SECRET_MAX + 8];
    uint8_t key[SHA256_SIZE];
    int len = snprintf(secret, sizeof(secret), "AWS4%s", s->key->secret_key);

    bool ok =
        HMAC(EVP_sha256(), secret, len, (const uint8_t *)s->date, DAY_LEN, key, NULL) != NULL &&
        derive(key, s->key->region, strlen(s->key->region)) &&
        derive(key, s->key->service, strlen(s->key->service)) &&
        derive(key, "aws4_request", strlen("aws4_request")) && derive(key, text, strlen(text));
    if (ok)
        string_hex(bytes_of(key, sizeof(key)), out);
    OPENSSL_cleanse(secret, sizeof(secret));
    OPENSSL_cleanse(key, sizeof(key));
    return ok;
}

static bool sign(struct signing *s, struct error *err)
{
    char hash[SHA256_HEX_LEN + 1];
    char text[sizeof(algorithm) + SIGV4_DATE_LEN + SCOPE_MAX + sizeof(hash)];

    if (!hash_request(s, hash, err))
        return false;
    snprintf(text, sizeof(text), "%s\n%s\n%s\n%s", algorithm, s->date, s->scope, hash);
    return sign_text(s, text, s->signature) || error_set(err, ERROR_INTERNAL, "HMAC failed");
}

static bool is_visible(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s <= ' ' || *s > '~')
            return false;
    return true;
}

static bool begin(struct signing *s, struct error *err)
{
    const struct sigv4_key *key = s->key;
    const struct sigv4_request *request = s->request;

    if (!is_visible(request->method) || !is_visible(request->host) || !is_visible(request->path) ||
        !is_visible(request->query) || !is_visible(request->payload_sha256))
        return error_set(err, ERROR_BAD_REQUEST, "a request with a character to be encoded");
    if (!is_visible(key->access_key) || !is_visible(key->region) || !is_visible(key->service) ||
        (key->session_token != NULL && !is_visible(key->session_token)))
        return error_set(err, ERROR_BAD_REQUEST,
                         "an access key, session token or region with a space or worse");
    if (strlen(key->secret_key) > SECRET_MAX)
        return error_set(err, ERROR_TOO_LARGE, "a secret key of over %d bytes", SECRET_MAX);
    sigv4_date(request->time_s, s->date);
    int len = snprintf(s->scope, sizeof(s->scope), "%.*s/%s/%s/aws4_request", DAY_LEN, s->date,
                       key->region, key->service);
    if (len < 0 || (size_t)len >= sizeof(s->scope))
        return error_set(err, ERROR_TOO_LARGE, "the name of the region is too long");
    return collect_headers(s, err);
}

bool sigv4_authorization(const struct sigv4_key *key, const struct sigv4_request *request,
                         struct buffer *out, struct error *err)
{
    CLEANUP(buffer_done) struct buffer header_names = BUFFER_MAX(TEXT_MAX);
    struct signing s = {.key = key, .request = request, .header_names = &header_names};
    const char *token = key->session_token != NULL ? key->session_token : "";

    if (!begin(&s, err) || !insert_header(&s, "x-amz-date", s.date, err) ||
        (!request->omit_payload_header &&
         !insert_header(&s, "x-amz-content-sha256", request->payload_sha256, err)) ||
        (*token != '\0' && !insert_header(&s, "x-amz-security-token", token, err)) ||
        !name_headers(&s, err) || !sign(&s, err))
        return false;
    const char *names = buffer_cstr(&header_names, err);
    return names != NULL &&
           buffer_printf(out, err, "%s Credential=%s/%s, SignedHeaders=%s, Signature=%s", algorithm,
                         key->access_key, s.scope, names, s.signature);
}
