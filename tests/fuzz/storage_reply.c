/* What object storage may answer: the first byte says which store and call, the rest is replies
 * (replies.h). */
#include "base/clock.h"
#include "client/http_client.h"
#include "replies.h"
#include "store/driver.h"
#include "store/store.h"

enum { OBJECT_MAX = 4096, LISTED_MAX = 1000, NO_PAUSE_MS = 2 };

static const char token_text[] = "tHe-ToKeN", secret[] = "tHe-SeCrEt";

static bool token(struct bearer *bearer, int64_t deadline_ms, char out[BEARER_MAX],
                  struct error *err)
{
    strcpy(out, token_text);
    return true;
}

static void expired(struct bearer *bearer, const char *text)
{
    FUZZ_CHECK(strcmp(text, token_text) == 0);
}

static struct store *open_store(bool google)
{
    static struct bearer bearer = {token, expired};
    struct store_options options = {.url = google ? "gs://bucket/p" : "s3://bucket/p"};
    struct error err = {0};

    options.s3.endpoint = options.gcs.endpoint = "http://127.0.0.1:9";
    options.s3.region = "us-east-1";
    options.s3.access_key = "the-key";
    options.s3.secret_key = secret;
    options.s3.session_token = "";
    options.gcs.bearer = &bearer;
    struct store *store = store_open(&options, &err);
    FUZZ_CHECK(store != NULL);
    return store;
}

static void check_failure(const struct error *err)
{
    FUZZ_CHECK_ERROR(err, ERROR_NOT_FOUND, ERROR_BAD_REQUEST, ERROR_TOO_LARGE, ERROR_RANGE,
                     ERROR_DEADLINE, ERROR_UNAVAILABLE);
    FUZZ_CHECK(strstr(err->message, secret) == NULL && strstr(err->message, token_text) == NULL);
}

static void check_info(const struct store_info *info)
{
    FUZZ_CHECK(*info->etag != '\0' && memchr(info->etag, '\0', sizeof(info->etag)) != NULL);
    FUZZ_CHECK(info->modified_ms >= 0 && info->size <= INT64_MAX);
}

static void check_get(struct store *store, int64_t deadline_ms, bool ranged)
{
    CLEANUP(buffer_done) struct buffer data = {0};
    struct store_info info = {0};
    struct store_get get = {.key = "p/k", .max_bytes = OBJECT_MAX, .deadline_ms = deadline_ms};
    struct error err = {0};

    if (ranged) {
        get.offset = 3;
        get.length = 4;
    }
    if (!store_get(store, &get, &data, &info, &err)) {
        check_failure(&err);
        FUZZ_CHECK(data.len == 0);
        return;
    }
    check_info(&info);
    FUZZ_CHECK(data.len <= (ranged ? 4 : OBJECT_MAX));
    FUZZ_CHECK(ranged ? info.size >= 3 + data.len : info.size == data.len);
}

static void check_put(struct store *store, int64_t deadline_ms, bool if_absent)
{
    const struct store_put put = {.key = "p/k",
                                  .data = bytes_from_str("data"),
                                  .content_type = "image/jpeg",
                                  .if_absent = if_absent,
                                  .deadline_ms = deadline_ms};
    struct error err = {0};
    bool existed = false;

    if (!store_put(store, &put, &existed, &err)) {
        check_failure(&err);
        return;
    }
    FUZZ_CHECK(existed ? if_absent : replies.status >= 200 && replies.status < 300);
}

static bool listed(void *ctx, const char *key, uint64_t size)
{
    size_t *left = ctx;
    struct error err;

    FUZZ_CHECK(store_key_check(key, &err) && string_starts_with(key, "p/") && size <= INT64_MAX);
    return --*left > 0;
}

static void check_others(struct store *store, int64_t deadline_ms, int call)
{
    struct store_info info = {0};
    struct error err = {0};
    size_t left = LISTED_MAX;
    bool ok;

    switch (call) {
    case 0:
        ok = store_head(store, "p/k", deadline_ms, &info, &err);
        if (ok)
            check_info(&info);
        break;
    case 1:
        ok = store_delete(store, "p/k", deadline_ms, &err);
        FUZZ_CHECK(!ok || replies.status < 300 || replies.status == 404);
        break;
    default:
        ok = store_list(store, "p/", deadline_ms, listed, &left, &err);
    }
    if (!ok)
        check_failure(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t what = fuzz_byte(&in);
    int call = what >> 1 & 7;
    /* no time for the pause before another attempt */
    int64_t deadline_ms = clock_monotonic_ms() + NO_PAUSE_MS;

    /* a reply must not spell what messages must not hold */
    if (memmem(data, size, "tHe-", 4) != NULL)
        return 0;
    struct store *store = open_store((what & 1) != 0);
    replies_begin(in);
    if (call < 2)
        check_get(store, deadline_ms, call == 1);
    else if (call < 4)
        check_put(store, deadline_ms, call == 3);
    else
        check_others(store, deadline_ms, call - 4);
    store_free(store);
    return 0;
}
