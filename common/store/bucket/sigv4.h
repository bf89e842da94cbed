/* AWS Signature Version 4 in the Authorization header, as S3 wants it: the path is signed as it is
 * sent. Pure and thread-safe; no secret is kept or named in an error.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html */
#pragma once

#include "base/bytes.h"

struct sigv4_key {
    const char *access_key, *secret_key;
    const char *session_token;    /* NULL or "" for none */
    const char *region, *service; /* "s3" */
};

struct sigv4_header {
    const char *name; /* in any case */
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *host;  /* as the Host header will say it: with the port unless it is the scheme's
                          default */
    const char *path;  /* percent-encoded as it will be sent: encoded once, never normalised */
    const char *query; /* percent-encoded as it will be sent, any order, without '?'; "" for none */
    const struct sigv4_header *headers; /* besides host and x-amz-* below; all are signed */
    size_t header_count;
    const char *payload_sha256; /* hex, or "UNSIGNED-PAYLOAD" */
    int64_t time_s;             /* seconds since 1970 UTC */
    bool omit_payload_header;   /* for services that know no x-amz-content-sha256: S3 demands it */
};

enum { SIGV4_DATE_LEN = 17 };
/* "20130524T000000Z"; the first or last such time for one outside the years 1970 to
 * 9999. */
void sigv4_date(int64_t time_s, char out[SIGV4_DATE_LEN]);

/* Append the Authorization header's value, all or nothing. What is signed: host, x-amz-date,
 * x-amz-content-sha256, x-amz-security-token (if there is a token) and `headers`; the caller must
 * send them all. ERROR_BAD_REQUEST (a character that cannot be sent as it is), ERROR_TOO_LARGE
 * (over 64 headers or parameters, or 64 KiB of them), ERROR_INTERNAL. */
bool sigv4_authorization(const struct sigv4_key *key, const struct sigv4_request *request,
                         struct buffer *out, struct error *err) NODISCARD;
