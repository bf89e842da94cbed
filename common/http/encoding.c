#include "http/encoding.h"

#include "base/strings.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>

enum {
    STEP = 65536, /* bytes unpacked and charged at a time */
    GZIP_BITS = MAX_WBITS + 16,
    LEVEL = 1, /* a reply is packed while its client waits */
};

/* ---- the headers ---- */

static bool is_token(const char *text, size_t len, const char *name)
{
    return len == strlen(name) && strncasecmp(text, name, len) == 0;
}

/* False when it is none of ours. */
static bool coding_of(const char *text, size_t len, enum coding *ret)
{
    if (len == 0 || is_token(text, len, "identity"))
        *ret = CODING_IDENTITY;
    else if (is_token(text, len, "gzip") || is_token(text, len, "x-gzip"))
        *ret = CODING_GZIP;
    else if (is_token(text, len, "deflate"))
        *ret = CODING_DEFLATE;
    else
        return false;
    return true;
}

/* False when it is another coding than ours, or several. */
static bool body_coding(const struct request *req, enum coding *ret)
{
    *ret = CODING_IDENTITY;
    for (size_t i = 0; i < req->header_count; i++) {
        const char *value = req->headers[i].value;
        if (strcasecmp(req->headers[i].name, "Content-Encoding") == 0 &&
            (*ret != CODING_IDENTITY || !coding_of(value, strlen(value), ret)))
            return false;
    }
    return true;
}

bool encoding_is_identity(const struct request *req)
{
    enum coding coding;

    return body_coding(req, &coding) && coding == CODING_IDENTITY;
}

/* Whether the parameters of an Accept-Encoding's item say "not this one": q=0. */
static bool is_refused(const char *parameters, size_t len)
{
    const char *q = memmem(parameters, len, "q=", 2);

    return q != NULL && strspn(q + 2, "0.") == strcspn(q + 2, ", \t");
}

enum coding encoding_accepted(const struct request *req)
{
    enum coding best = CODING_IDENTITY, coding;

    for (size_t i = 0; i < req->header_count; i++) {
        if (strcasecmp(req->headers[i].name, "Accept-Encoding") != 0)
            continue;
        for (const char *p = req->headers[i].value; *p != '\0'; p += strspn(p, ", \t")) {
            size_t item = strcspn(p, ","), name = strcspn(p, ",; \t");
            if (coding_of(p, name, &coding) && !is_refused(p + name, item - name) &&
                coding != CODING_IDENTITY && best != CODING_GZIP)
                best = coding;
            p += item;
        }
    }
    return best;
}

/* ---- unpacking ---- */

static bool not_whole(struct error *err)
{
    return error_set(err, ERROR_BAD_REQUEST,
                     "the body does not match its Content-Encoding (grpc-encoding), or is cut off");
}

/* One step of what is unpacked, at most one byte more than `max`. */
static bool step(z_stream *z, size_t max, struct decoded_body *ret, int *status, struct error *err)
{
    struct buffer *out = &ret->unpacked;

    if (!byte_budget_take(ret->budget, STEP))
        return error_set(err, ERROR_OVERLOADED, "no room to unpack a body");
    ret->charged += STEP;
    size_t room = max + 1 - out->len < STEP ? max + 1 - out->len : STEP;
    if (!buffer_reserve(out, room, err))
        return false;
    z->next_out = out->data + out->len;
    z->avail_out = (uInt)room;
    *status = inflate(z, Z_NO_FLUSH);
    out->len += room - z->avail_out;
    if (*status == Z_MEM_ERROR)
        return error_oom(err);
    if (out->len > max)
        return error_set(err, ERROR_TOO_LARGE, "the body unpacks to more than %zu bytes", max);
    /* without an end, and room left over: the input is all used up */
    bool stuck = *status != Z_STREAM_END && z->avail_out > 0;
    return (*status == Z_OK || *status == Z_STREAM_END) && !stuck ? true : not_whole(err);
}

static bool unpack(struct bytes packed, int bits, size_t max, struct decoded_body *ret,
                   struct error *err)
{
    union {
        const uint8_t *in;
        uint8_t *z; /* zlib's type; it does not write there */
    } next = {.in = packed.data};
    z_stream z = {.next_in = next.z, .avail_in = (uInt)packed.len};
    int status = Z_OK;

    if (packed.len > UINT32_MAX || inflateInit2(&z, bits) != Z_OK)
        return error_oom(err);
    bool ok = true;
    while (ok && status != Z_STREAM_END)
        ok = step(&z, max, ret, &status, err);
    if (ok && z.avail_in > 0)
        ok = not_whole(err);
    inflateEnd(&z);
    return ok;
}

bool body_decode(const struct request *req, size_t max, struct decoded_body *ret, struct error *err)
{
    enum coding coding;

    *ret = (struct decoded_body){.bytes = req->body};
    if (!body_coding(req, &coding))
        return error_set(err, ERROR_UNSUPPORTED_MEDIA,
                         "Content-Encoding must be gzip or deflate, only one of them");
    return coding == CODING_IDENTITY ||
           body_unpack(req->body, coding, req->context.budget, max, ret, err);
}

bool body_unpack(struct bytes packed, enum coding coding, struct byte_budget *budget, size_t max,
                 struct decoded_body *ret, struct error *err)
{
    *ret = (struct decoded_body){.budget = budget, .unpacked.max = max + 1};
    if (!unpack(packed, coding == CODING_GZIP ? GZIP_BITS : MAX_WBITS, max, ret, err)) {
        decoded_body_done(ret);
        return false;
    }
    ret->bytes = buffer_view(&ret->unpacked);
    return true;
}

void decoded_body_done(struct decoded_body *body)
{
    buffer_done(&body->unpacked);
    if (body->charged > 0)
        byte_budget_give(body->budget, body->charged);
    *body = (struct decoded_body){0};
}

/* ---- packing ---- */

bool body_pack(struct bytes body, enum coding coding, struct buffer *ret, struct error *err)
{
    union {
        const uint8_t *in;
        uint8_t *z; /* as above */
    } next = {.in = body.data};
    z_stream z = {.next_in = next.z, .avail_in = (uInt)body.len};

    if (deflateInit2(&z, LEVEL, Z_DEFLATED, coding == CODING_GZIP ? GZIP_BITS : MAX_WBITS,
                     MAX_MEM_LEVEL - 1, Z_DEFAULT_STRATEGY) != Z_OK)
        return error_oom(err);
    size_t bound = deflateBound(&z, body.len);
    *ret = (struct buffer)BUFFER_MAX(bound);
    bool ok = buffer_reserve(ret, bound, err);
    if (ok) {
        z.next_out = ret->data;
        z.avail_out = (uInt)bound;
        ok = deflate(&z, Z_FINISH) == Z_STREAM_END || error_oom(err);
        ret->len = bound - z.avail_out;
    }
    deflateEnd(&z);
    if (!ok)
        buffer_done(ret);
    return ok;
}

bool reply_encode(struct reply *reply, enum coding coding, struct error *err)
{
    struct buffer packed;

    if (coding == CODING_IDENTITY)
        return true;
    if (!body_pack(buffer_view(&reply->body), coding, &packed, err))
        return false;
    buffer_done(&reply->body);
    reply->body = packed;
    reply_add_header(reply, "Content-Encoding", "%s", coding == CODING_GZIP ? "gzip" : "deflate");
    return true;
}
