/* What a store's calls take and return: what store.h and the drivers share. */
#pragma once

#include "base/bytes.h"
#include "base/clock.h"

enum {
    STORE_KEY_MAX = 1024,
    STORE_URI_MAX = 4096 + 3 * STORE_KEY_MAX,
    STORE_CONTENT_TYPE_MAX = 128,
    STORE_ETAG_MAX = 128,
    STORE_OWNER_MAX = 254, /* an address's length: RFC 5321, 4.5.3.1.3 */
};

/* What is behind the prefix in the keys of sealed objects: encrypted in the store, and only there.
 * Without SEAL_KEYS_FILE they are ERROR_UNAVAILABLE; damaged ones are ERROR_INTERNAL. */
#define STORE_SEALED "sealed/"

struct store_put {
    const char *key;
    struct bytes data;
    const char *owner;        /* whose it is, kept with a sealed object; NULL or "": nobody's */
    const char *content_type; /* for a bucket's other clients; a directory keeps none */
    bool if_absent;           /* keep what is there: the call then succeeds with *existed = true */
    int64_t deadline_ms;
};

struct store_get {
    const char *key;
    uint64_t offset;
    uint64_t length;  /* 0: to the end; a length past the end is cut */
    size_t max_bytes; /* more than this in the requested range is ERROR_TOO_LARGE */
    int64_t deadline_ms;
};

struct store_info {
    uint64_t size;             /* of the whole object */
    char etag[STORE_ETAG_MAX]; /* changes when the object's bytes are replaced; without quotes */
    int64_t modified_ms;       /* wall clock */
    char owner[STORE_OWNER_MAX + 1]; /* of a sealed object, told by store_head; or "" */
};

/* Called for each object whose key starts with the prefix, in no particular order; return false to
 * stop (not an error). `size` is that of the stored bytes: a sealed object's has its header, too.
 */
typedef bool (*store_list_fn)(void *ctx, const char *key, uint64_t size);

/* Called for each mistake in a store's options; returns false. */
typedef bool (*store_mistake_fn)(void *ctx, const char *text);

enum store_s3_signature { STORE_S3_V4, STORE_S3_V2 };

struct bearer;
struct http_client;

/* All strings and pointers are borrowed and must outlive the store; NULL strings are "". */
struct store_options {
    const char *url;             /* STORAGE_URL */
    struct http_client *client;  /* s3 (v4) and gs */
    const struct clock_cut *cut; /* may be NULL */
    const char *seal_keys_file;  /* SEAL_KEYS_FILE */
    struct {
        const char *endpoint; /* "http(s)://host[:port]"; "" for AWS */
        const char *region;
        const char *access_key, *secret_key, *session_token;
        bool virtual_addressing; /* bucket.host instead of host/bucket */
        enum store_s3_signature signature;
    } s3;
    struct {
        const char *endpoint;  /* "" for Google's */
        struct bearer *bearer; /* NULL for none (emulators) */
    } gcs;
};
