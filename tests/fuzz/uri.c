/* Object URIs, keys and URLs: all readings of one text. */
#include "base/strings.h"
#include "base/xmalloc.h"
#include "fuzz.h"
#include "store/driver.h"
#include "store/store.h"

#include <curl/curl.h>
#include <strings.h>

static const struct store stores[] = {
    {.scheme = STORE_SCHEME_FILE, .place = (char[]){"/srv/a b"}, .prefix = (char[]){""}},
    {.scheme = STORE_SCHEME_FILE, .place = (char[]){""}, .prefix = (char[]){""}},
    {.scheme = STORE_SCHEME_S3, .place = (char[]){"photos"}, .prefix = (char[]){"in/"}},
    {.scheme = STORE_SCHEME_GS, .place = (char[]){"photos"}, .prefix = (char[]){""}},
};

static void check_key(const struct store *store, const char *key)
{
    size_t len = strlen(key);

    FUZZ_CHECK(len >= 1 && len <= STORE_KEY_MAX && string_is_utf8(bytes_from_str(key)));
    FUZZ_CHECK(string_starts_with(key, store->prefix));
    FUZZ_CHECK(strcmp(key, "..") != 0 && !string_starts_with(key, "../") &&
               strstr(key, "/../") == NULL && !string_ends_with(key, "/.."));
    FUZZ_CHECK(key[strcspn(key, "\r\n\t\x7f")] == '\0');
}

/* A key of a URI, written as a URI, is the same key. */
static void check_uri(const struct store *store, const char *uri)
{
    char key[STORE_KEY_MAX + 1], again[STORE_KEY_MAX + 1], out[STORE_URI_MAX];
    struct error err = {0};

    if (!store_key_of_uri(store, uri, key, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST, ERROR_FORBIDDEN);
        return;
    }
    check_key(store, key);
    FUZZ_CHECK(store_uri(store, key, out, &err));
    FUZZ_CHECK(store_key_of_uri(store, out, again, &err));
    FUZZ_CHECK(strcmp(key, again) == 0);
}

/* A text that is a good key has a URI, which leads to it. */
static void check_as_key(const struct store *store, const char *text)
{
    char again[STORE_KEY_MAX + 1], out[STORE_URI_MAX];
    struct error err = {0};

    if (!store_key_allowed(store, text, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST, ERROR_FORBIDDEN);
        return;
    }
    check_key(store, text);
    FUZZ_CHECK(store_uri(store, text, out, &err));
    if (store_key_of_uri(store, out, again, &err))
        FUZZ_CHECK(strcmp(again, text) == 0);
    else /* a directory's URIs may not name all that a bucket can hold */
        FUZZ_CHECK(store->scheme == STORE_SCHEME_FILE && err.code == ERROR_BAD_REQUEST);
}

static bool part_is(CURLU *url, CURLUPart part, const char *text)
{
    char *value = NULL;
    bool same = curl_url_get(url, part, &value, 0) == CURLUE_OK
                    ? text != NULL && strcasecmp(value, text) == 0
                    : text == NULL;

    curl_free(value);
    return same;
}

/* What we call safe, libcurl (which will go there) reads the same way. */
static void check_url(const char *text)
{
    CURLU *url = curl_url();
    char *host = NULL;

    FUZZ_CHECK(url != NULL);
    if (url_is_safe(text) &&
        curl_url_set(url, CURLUPART_URL, text, CURLU_PATH_AS_IS) == CURLUE_OK) {
        FUZZ_CHECK(part_is(url, CURLUPART_USER, NULL) && part_is(url, CURLUPART_PASSWORD, NULL) &&
                   part_is(url, CURLUPART_FRAGMENT, NULL));
        if (!part_is(url, CURLUPART_SCHEME, "https")) {
            FUZZ_CHECK(part_is(url, CURLUPART_SCHEME, "http"));
            FUZZ_CHECK(curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK);
            FUZZ_CHECK(strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
                       string_starts_with(host, "127."));
        }
    }
    curl_free(host);
    curl_url_cleanup(url);
}

/* STORAGE_URL: what opens has a sound bucket and prefix. */
static void check_open(const char *url)
{
    const struct store_options options = {
        .url = url,
        .s3 = {"http://127.0.0.1:9", "us-east-1", "the-key", "tHe-SeCrEt-KeY", "", false, 0}};
    char uri[STORE_URI_MAX];
    struct error err = {0};

    /* a file: URL would make directories */
    if (string_starts_with(url, "file:") || strstr(url, "tHe-SeCrEt") != NULL)
        return;
    struct store *store = store_open(&options, &err);
    if (store == NULL) {
        FUZZ_CHECK_ERROR(&err, ERROR_CONFIG);
        return;
    }
    CLEANUP_FREE char *key = xasprintf("%sk", store_prefix(store));
    if (store_uri(store, key, uri, &err))
        check_uri(store, uri);
    store_free(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = fuzz_text(bytes_of(data, size));

    for (size_t i = 0; i < ARRAY_SIZE(stores); i++) {
        check_uri(&stores[i], text);
        check_as_key(&stores[i], text);
    }
    check_url(text);
    check_open(text);
    return 0;
}
