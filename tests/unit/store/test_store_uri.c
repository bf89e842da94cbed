/* Keys and object URIs of every kind of store, and what STORAGE_URL may say. */
#include "../test_cases.h"
#include "../test_folder.h"
#include "store/driver.h"
#include "store/store.h"

#include <limits.h>
#include <sys/stat.h>

static char folder[PATH_MAX];

static struct store fake(enum store_scheme scheme, const char *place, const char *prefix)
{
    static char buffers[2][256];

    snprintf(buffers[0], sizeof(buffers[0]), "%s", place);
    snprintf(buffers[1], sizeof(buffers[1]), "%s", prefix);
    return (struct store){.scheme = scheme, .place = buffers[0], .prefix = buffers[1]};
}

static const char *repeat(char c, size_t n)
{
    static char text[8192];

    memset(text, c, n);
    text[n] = '\0';
    return text;
}

TEST(test_keys)
{
    static const char *const good[] = {
        "a",    "a/b.jpg", "...", ".a",       "a/..b",  "a/b..",
        "a//b", "/a",      "a/",  "%2e%2e/x", "ü ?#+%", "a\\..\\b",
    };
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "a/.",
        "./a",
        "a/./b",
        "/..",
        "a//..",
        "../",
        "a\nb",
        "a\rb",
        "\x01",
        "\x7f",
        "\xff",
        "\xc3",
        "\xc0\xae\xc0\xae/x",
        "a\t",
    };
    struct error err;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        if (!store_key_check(good[i], &err))
            fail_msg("refused '%s': %s", good[i], err.message);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        err = (struct error){0};
        if (store_key_check(bad[i], &err))
            fail_msg("accepted '%s'", bad[i]);
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
    }
    assert_true(store_key_check(repeat('k', STORE_KEY_MAX), &err));
    assert_false(store_key_check(repeat('k', STORE_KEY_MAX + 1), &err));
}

TEST(test_round_trips)
{
    static const char *const keys[] = {
        "a.jpg", "a b/c",        "100%",        "%41",  "a+b",  "grün/日本", "who?", "#1",
        "a?b#c", "&=;,@:!$'()*", "\"<>\\^`{|}", "~._-", "a//b", "a/",        "/a",   "[x]",
    };
    const struct store stores[] = {
        {.scheme = STORE_SCHEME_FILE,
         .place = (char[]){"/srv/my objects/50%"},
         .prefix = (char[]){""}},
        {.scheme = STORE_SCHEME_FILE, .place = (char[]){""}, .prefix = (char[]){""}},
        {.scheme = STORE_SCHEME_S3, .place = (char[]){"bucket"}, .prefix = (char[]){""}},
        {.scheme = STORE_SCHEME_GS, .place = (char[]){"b.example.org"}, .prefix = (char[]){""}},
    };
    char uri[STORE_URI_MAX];
    char key[STORE_KEY_MAX + 1];
    struct error err = {0};

    for (size_t s = 0; s < ARRAY_SIZE(stores); s++) {
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
            if (!store_uri(&stores[s], keys[i], uri, &err) ||
                !store_key_of_uri(&stores[s], uri, key, &err))
                fail_msg("'%s' -> %s: %s", keys[i], uri, err.message);
            assert_string_equal(key, keys[i]);
        }
    }
}

TEST(test_formatting)
{
    struct store file = fake(STORE_SCHEME_FILE, "/data/my objects", "");
    char uri[STORE_URI_MAX];
    struct error err = {0};

    assert_true(store_uri(&file, "a b/ü%+?#.jpg", uri, &err));
    assert_string_equal(uri, "file:///data/my%20objects/a%20b/%C3%BC%25+%3F%23.jpg");
    struct store s3 = fake(STORE_SCHEME_S3, "bucket", "in/");
    assert_true(store_uri(&s3, "in/a b/ü%+?#.jpg", uri, &err));
    assert_string_equal(uri, "s3://bucket/in/a b/ü%+?#.jpg"); /* raw: never encoded */
    assert_fails(err, ERROR_FORBIDDEN, store_uri(&s3, "out/a", uri, &err));
    assert_fails(err, ERROR_BAD_REQUEST, store_uri(&s3, "in/../out/a", uri, &err));
    struct store longest = fake(STORE_SCHEME_FILE, "/r", "");
    assert_true(store_uri(&longest, repeat(' ', STORE_KEY_MAX), uri, &err));
    assert_int_equal(strlen(uri), strlen("file:///r/") + 3 * STORE_KEY_MAX);
}

struct parsed {
    const char *uri;
    enum error_code code;
    const char *key;
};

static void check_parsing(const struct store *store, const struct parsed *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char key[STORE_KEY_MAX + 1] = "untouched";
        struct error err = {0};
        bool ok = store_key_of_uri(store, cases[i].uri, key, &err);
        if (err.code != cases[i].code || ok != (cases[i].code == ERROR_NONE) ||
            strcmp(key, ok ? cases[i].key : "untouched") != 0)
            fail_msg("'%s': %s, key '%s', %s", cases[i].uri, error_slug(err.code), key,
                     err.message);
    }
}

TEST(test_parsing_file_uris)
{
    struct store store = fake(STORE_SCHEME_FILE, "/srv/o b", "");
    static const struct parsed cases[] = {
        {"file:///srv/o%20b/a.jpg", ERROR_NONE, "a.jpg"},
        {"FILE:///srv/o%20b/a%2fb", ERROR_NONE, "a/b"},
        {"file:/srv/o%20b/%2541", ERROR_NONE, "%41"}, /* decoded once */
        {"file://localhost/srv/o b/%61", ERROR_NONE, "a"},
        {"file:///srv/o%20b/../../etc/passwd", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/%2e%2e/x", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/..%2fx", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/../srv/o%20b/x", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/./o%20b/x", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/a%00.jpg", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/a%0a", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/a%", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/a%4", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/a%zz", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/a?x", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/a#x", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b/", ERROR_BAD_REQUEST, NULL},
        {"file:///srv/o%20b", ERROR_FORBIDDEN, NULL},
        {"file:///srv/o%20bx/a", ERROR_FORBIDDEN, NULL},
        {"file:///etc/passwd", ERROR_FORBIDDEN, NULL},
        {"file:////srv/o%20b/a", ERROR_FORBIDDEN, NULL},
        {"file://elsewhere/srv/o%20b/a", ERROR_FORBIDDEN, NULL},
        {"file:srv/o%20b/a", ERROR_BAD_REQUEST, NULL},
        {"file:", ERROR_BAD_REQUEST, NULL},
        {"s3://bucket/a", ERROR_FORBIDDEN, NULL},
        {"http://169.254.169.254/", ERROR_FORBIDDEN, NULL},
        {"/srv/o b/a", ERROR_BAD_REQUEST, NULL},
        {"a.jpg", ERROR_BAD_REQUEST, NULL},
        {"", ERROR_BAD_REQUEST, NULL},
        {":", ERROR_BAD_REQUEST, NULL},
    };
    struct error err = {0};
    char key[STORE_KEY_MAX + 1];

    check_parsing(&store, cases, ARRAY_SIZE(cases));
    assert_false(store_key_of_uri(&store, repeat('a', STORE_URI_MAX), key, &err));
    char uri[9000];
    snprintf(uri, sizeof(uri), "file:///srv/o%%20b/%s", repeat('k', STORE_KEY_MAX + 1));
    assert_fails(err, ERROR_BAD_REQUEST, store_key_of_uri(&store, uri, key, &err));
}

TEST(test_parsing_bucket_uris)
{
    struct store store = fake(STORE_SCHEME_S3, "bucket", "in/");
    static const struct parsed cases[] = {
        {"s3://bucket/in/a", ERROR_NONE, "in/a"},
        {"S3://bucket/in/a%2e%2f..b?x#y", ERROR_NONE, "in/a%2e%2f..b?x#y"},
        {"s3://bucket/in/", ERROR_NONE, "in/"},
        {"s3://bucket/out/a", ERROR_FORBIDDEN, NULL},
        {"s3://bucket/in", ERROR_FORBIDDEN, NULL},
        {"s3://bucket/inside", ERROR_FORBIDDEN, NULL},
        {"s3://Bucket/in/a", ERROR_FORBIDDEN, NULL},
        {"s3://bucke/in/a", ERROR_FORBIDDEN, NULL},
        {"s3://bucket2/in/a", ERROR_FORBIDDEN, NULL},
        {"s3://bucket2/in/../a", ERROR_BAD_REQUEST, NULL},
        {"s3://bucket/in/../out/a", ERROR_BAD_REQUEST, NULL},
        {"s3://bucket/in/a\n", ERROR_BAD_REQUEST, NULL},
        {"s3://bucket/", ERROR_BAD_REQUEST, NULL},
        {"s3://bucket", ERROR_BAD_REQUEST, NULL},
        {"s3:///in/a", ERROR_BAD_REQUEST, NULL},
        {"s3:bucket/in/a", ERROR_BAD_REQUEST, NULL},
        {"gs://bucket/in/a", ERROR_FORBIDDEN, NULL},
        {"s3x://bucket/in/a", ERROR_FORBIDDEN, NULL},
        {"file:///bucket/in/a", ERROR_FORBIDDEN, NULL},
    };

    check_parsing(&store, cases, ARRAY_SIZE(cases));
}

static void expect_config(const char *url, const char *text)
{
    struct error err = {0};
    struct store *store = store_open(&(struct store_options){.url = url}, &err);

    if (store != NULL)
        fail_msg("opened '%s'", url);
    if (err.code != ERROR_CONFIG || strstr(err.message, text) == NULL)
        fail_msg("'%s': %s: %s", url, error_slug(err.code), err.message);
}

static void expect_opens(const char *url, const char *uri_of_k)
{
    struct error err = {0};
    struct store *store = store_open(&(struct store_options){.url = url}, &err);
    char uri[STORE_URI_MAX];

    if (store == NULL)
        fail_msg("'%s': %s", url, err.message);
    assert_string_equal(store_prefix(store), "");
    assert_true(store_uri(store, "k", uri, &err));
    assert_string_equal(uri, uri_of_k);
    store_free(store);
}

TEST(test_storage_urls)
{
    char url[PATH_MAX + 64];
    char uri[PATH_MAX + 64];

    assert_int_equal(chdir(folder), 0);
    assert_int_equal(symlink("real", "link"), 0);
    snprintf(uri, sizeof(uri), "file://%s/a/b/k", folder);
    expect_opens("file:a/b", uri);
    expect_opens("file:./a/../a//b/", uri);
    snprintf(url, sizeof(url), "file://%s/a/b", folder);
    expect_opens(url, uri);
    snprintf(url, sizeof(url), "file:%s/a/b/", folder);
    expect_opens(url, uri);
    snprintf(uri, sizeof(uri), "file://%s/with%%20space/k", folder);
    expect_opens("file:with%20space", uri);
    expect_opens("file:with space", uri);
    assert_int_equal(mkdir("real", 0777), 0); /* the root itself may be reached by a link */
    snprintf(uri, sizeof(uri), "file://%s/real/k", folder);
    expect_opens("file:link", uri);
    expect_opens("gs://bucket", "gs://bucket/k"); /* all other options are NULL */
    expect_config("s3://bucket", "AWS_ACCESS_KEY_ID");
    assert_null(store_open(&(struct store_options){0}, &(struct error){0}));

    expect_config("s3://", "bucket");
    expect_config("s3://Bucket", "bucket");
    expect_config("gs://a/b", "bucket");
    expect_config("gs://-abc", "bucket");
    expect_config("gs://a..b", "bucket");
    expect_config("s3://bucket/a/../b", "prefix");
    expect_config("s3://bucket/\n", "prefix");
    expect_config("", "URL");
    expect_config("data/objects", "URL");
    expect_config("http://host/", "URL");
    expect_config("file:", "dir");
    expect_config("file://", "dir");
    expect_config("file://host/dir", "dir");
    expect_config("file:a%", "dir");
    expect_config("file:/dev/null/nope", "/dev/null/nope");
    fclose(fopen("plain", "w"));
    expect_config("file:plain", "Not a directory");
}

static int make_folder(void **state)
{
    char name[TEST_FOLDER_MAX];

    return test_folder_make(name) != 0 || realpath(name, folder) == NULL;
}

static int remove_folder(void **state)
{
    return chdir("/") != 0 || test_folder_remove(folder);
}

TEST_MAIN(make_folder, remove_folder)
