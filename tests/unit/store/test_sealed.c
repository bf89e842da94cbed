/* Sealed objects on a directory: every byte comes back, and whatever is done to what is stored, no
 * wrong byte does. */
#include "../test_cases.h"
#include "../test_folder.h"
#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/sealed/seal.h"
#include "store/store.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define KEY_1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n" /* 0, 1, … 31 */
#define KEY_2 "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\n" /* 32, 33, … 63 */

static char folder[TEST_FOLDER_MAX];
static char keys_path[TEST_FOLDER_MAX + 16];
static struct store *store;

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void open_store(const char *keys)
{
    CLEANUP_FREE char *url = xasprintf("file:%s/objects", folder);
    struct error err = {0};

    store_free(store);
    if (keys != NULL)
        write_file(keys_path, keys, strlen(keys));
    store = store_open(
        &(struct store_options){.url = url, .seal_keys_file = keys != NULL ? keys_path : NULL},
        &err);
    if (store == NULL)
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    (void)state;
    int status = test_folder_make(folder);
    snprintf(keys_path, sizeof(keys_path), "%s/keys", folder);
    open_store(KEY_1);
    return status;
}

static int teardown(void **state)
{
    (void)state;
    store_free(store);
    store = NULL;
    return test_folder_remove(folder);
}

static int64_t soon(void)
{
    return clock_monotonic_ms() + 60000;
}

static void put_for(const char *owner, const char *key, struct bytes data)
{
    struct error err = {0};

    if (!store_put(store,
                   &(struct store_put){.key = key,
                                       .data = data,
                                       .owner = owner,
                                       .content_type = "image/jpeg",
                                       .deadline_ms = soon()},
                   NULL, &err))
        fail_msg("%s", err.message);
}

static void put(const char *key, struct bytes data)
{
    put_for(NULL, key, data);
}

static bool get(const char *key, uint64_t offset, uint64_t length, struct buffer *data,
                struct store_info *info, struct error *err)
{
    return store_get(store,
                     &(struct store_get){.key = key,
                                         .offset = offset,
                                         .length = length,
                                         .max_bytes = 1 << 20,
                                         .deadline_ms = soon()},
                     data, info, err);
}

static void assert_range(const char *key, struct bytes all, uint64_t offset, uint64_t length)
{
    CLEANUP(buffer_done) struct buffer data = {0};
    struct store_info info;
    struct error err = {0};
    uint64_t left = all.len - offset;
    uint64_t want = length == 0 || length > left ? left : length;

    if (!get(key, offset, length, &data, &info, &err))
        fail_msg("%s", err.message);
    assert_int_equal(info.size, all.len);
    assert_true(bytes_equal(buffer_view(&data), bytes_of(all.data + offset, want)));
}

static void assert_refused(const char *key, uint64_t offset, uint64_t length, enum error_code code)
{
    CLEANUP(buffer_done) struct buffer data = {0};
    struct error err = {0};

    assert_fails(err, code, get(key, offset, length, &data, NULL, &err));
    assert_int_equal(data.len, 0);
}

/* The stored bytes of an object. */
static const char *stored_path(const char *key)
{
    static char path[TEST_FOLDER_MAX + 64];

    snprintf(path, sizeof(path), "%s/objects/%s", folder, key);
    return path;
}

static size_t load(const char *key, uint8_t *data, size_t max)
{
    FILE *file = fopen(stored_path(key), "re");

    assert_non_null(file);
    size_t ret = fread(data, 1, max, file);
    fclose(file);
    return ret;
}

static void save(const char *key, const uint8_t *data, size_t len)
{
    write_file(stored_path(key), data, len);
}

static struct bytes noise(size_t len)
{
    static uint8_t data[200000];

    assert_true(len <= sizeof(data));
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 2654435761U >> 13);
    return bytes_of(data, len);
}

static uint8_t stored[300000], other[300000];

static void assert_every_size_and_range(const char *owner)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 131072, 200000};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const size_t size = sizes[i];
        struct store_info info;
        struct error err = {0};
        struct bytes all = noise(size);
        const uint64_t marks[] = {0, 1, 65535, 65536, 65537, 131071, 131072, 199999};

        put_for(owner, "sealed/x.jpg", all);
        assert_int_equal(load("sealed/x.jpg", stored, sizeof(stored)),
                         seal_size(&(struct seal_opened){.size = size, .owned = *owner != '\0'}));
        assert_true(store_head(store, "sealed/x.jpg", soon(), &info, &err));
        assert_int_equal(info.size, size);
        assert_string_equal(info.owner, owner);
        assert_string_equal(info.owner, owner);
        assert_range("sealed/x.jpg", all, 0, 0);
        for (size_t from = 0; from < ARRAY_SIZE(marks); from++)
            for (size_t len = 0; len < ARRAY_SIZE(marks); len++)
                if (marks[from] < size)
                    assert_range("sealed/x.jpg", all, marks[from], marks[len]);
        if (size > 0)
            assert_refused("sealed/x.jpg", size, 0, ERROR_RANGE);
    }
}

TEST_WITH(every_size_and_range_comes_back, setup, teardown)
{
    char longest[STORE_OWNER_MAX + 1];

    (void)state;
    memset(longest, 'o', sizeof(longest) - 1);
    longest[STORE_OWNER_MAX] = '\0';
    assert_every_size_and_range("");
    assert_every_size_and_range("alice");
    assert_every_size_and_range(longest);
}

TEST_WITH(an_owner_is_sealed_too, setup, teardown)
{
    static const char owner[] = "somebody@example.com";
    char too_long[STORE_OWNER_MAX + 2];
    struct error err = {0};
    struct store_info info;
    bool changed;

    (void)state;
    put_for(owner, "sealed/x.jpg", noise(100));
    size_t len = load("sealed/x.jpg", stored, sizeof(stored));
    for (size_t at = 0; at + 8 <= len; at++)
        assert_memory_not_equal(stored + at, owner, 8);
    for (size_t bit = 0; bit < 8 * len; bit += bit < 8 * SEAL_HEADER_LEN ? 1 : 5) {
        bool of_key_id = bit >= 64 && bit < 128, of_chunks = bit >= 8 * (84 + 272);
        enum error_code code = of_key_id ? ERROR_UNAVAILABLE : ERROR_INTERNAL;
        stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
        save("sealed/x.jpg", stored, len);
        if (bit < 8 * SEAL_HEADER_LEN || of_chunks)
            assert_refused("sealed/x.jpg", 0, 0, code);
        if (!of_chunks)
            assert_fails(err, code, store_head(store, "sealed/x.jpg", soon(), &info, &err));
        stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }

    put_for("another", "sealed/y.jpg", noise(100)); /* another's in its place */
    assert_int_equal(load("sealed/y.jpg", other, sizeof(other)), len);
    memcpy(other + 84, stored + 84, 272);
    save("sealed/y.jpg", other, len);
    assert_fails(err, ERROR_INTERNAL, store_head(store, "sealed/y.jpg", soon(), &info, &err));

    save("sealed/x.jpg", stored, len);
    open_store(KEY_1 KEY_2);
    assert_true(store_reseal(store, "sealed/x.jpg", soon(), &changed, &err) && changed);
    open_store(KEY_2);
    assert_true(store_head(store, "sealed/x.jpg", soon(), &info, &err));
    assert_string_equal(info.owner, owner);
    assert_range("sealed/x.jpg", noise(100), 0, 0);

    memset(too_long, 'o', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    assert_fails(err, ERROR_BAD_REQUEST,
                 store_put(store,
                           &(struct store_put){.key = "sealed/z.jpg",
                                               .owner = too_long,
                                               .content_type = "image/jpeg",
                                               .deadline_ms = soon()},
                           NULL, &err));
}

TEST_WITH(only_sealed_names_are_sealed, setup, teardown)
{
    struct bytes all = noise(1000);

    (void)state;
    put("x.jpg", all);
    put("sealed/x.jpg", all);
    assert_int_equal(load("x.jpg", stored, sizeof(stored)), 1000);
    assert_memory_equal(stored, all.data, 1000);
    size_t len = load("sealed/x.jpg", stored, sizeof(stored));
    for (size_t at = 0; at + 16 <= len; at++) /* nothing of it can be read there */
        assert_memory_not_equal(stored + at, all.data + 100, 16);
}

TEST_WITH(the_same_bytes_are_never_stored_alike, setup, teardown)
{
    (void)state;
    put("sealed/x.jpg", noise(1000));
    size_t len = load("sealed/x.jpg", stored, sizeof(stored));
    put("sealed/x.jpg", noise(1000));
    assert_int_equal(load("sealed/x.jpg", other, sizeof(other)), len);
    for (size_t at = 24; at + 16 <= len; at += 16)
        assert_memory_not_equal(stored + at, other + at, 16);
}

TEST_WITH(a_flipped_bit_is_an_error, setup, teardown)
{
    (void)state;
    put("sealed/x.jpg", noise(100));
    size_t len = load("sealed/x.jpg", stored, sizeof(stored));
    for (size_t bit = 0; bit < 8 * len; bit += bit < 8 * SEAL_HEADER_LEN ? 1 : 5) {
        bool of_key_id = bit >= 64 && bit < 128;
        stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
        save("sealed/x.jpg", stored, len);
        assert_refused("sealed/x.jpg", 0, 0, of_key_id ? ERROR_UNAVAILABLE : ERROR_INTERNAL);
        stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

TEST_WITH(a_cut_is_an_error, setup, teardown)
{
    static const size_t cuts[] = {0,     1,     83,     84,     85,     99,     100,   65635,
                                  65636, 65637, 131187, 131188, 131189, 200147, 200148};

    (void)state;
    put("sealed/x.jpg", noise(200000));
    size_t len = load("sealed/x.jpg", stored, sizeof(stored));
    assert_int_equal(len, 84 + 200000 + 4 * 16);
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        save("sealed/x.jpg", stored, cuts[i] < len ? cuts[i] : len - 1);
        assert_refused("sealed/x.jpg", 0, 0, ERROR_INTERNAL);
        assert_refused("sealed/x.jpg", 10, 10, ERROR_INTERNAL);
        assert_refused("sealed/x.jpg", 70000, 10, ERROR_INTERNAL);
    }
    save("sealed/x.jpg", stored, len + 1); /* more than there was */
    assert_refused("sealed/x.jpg", 0, 0, ERROR_INTERNAL);
}

TEST_WITH(chunks_and_objects_stay_where_they_are, setup, teardown)
{
    const size_t chunk = SEAL_SEALED_CHUNK_LEN;

    (void)state;
    put("sealed/x.jpg", noise(200000));
    size_t len = load("sealed/x.jpg", stored, sizeof(stored));
    memcpy(other, stored, len);
    memcpy(stored + SEAL_HEADER_LEN, other + SEAL_HEADER_LEN + chunk, chunk);
    memcpy(stored + SEAL_HEADER_LEN + chunk, other + SEAL_HEADER_LEN, chunk);
    save("sealed/x.jpg", stored, len);
    assert_refused("sealed/x.jpg", 0, 0, ERROR_INTERNAL);
    assert_refused("sealed/x.jpg", 70000, 10, ERROR_INTERNAL);
    assert_range("sealed/x.jpg", noise(200000), 140000, 10); /* a chunk that is where it was */

    save("sealed/y.jpg", other, len); /* another's name */
    assert_refused("sealed/y.jpg", 0, 0, ERROR_INTERNAL);

    put("sealed/z.jpg", noise(200000)); /* another's chunk in the same place */
    assert_int_equal(load("sealed/z.jpg", stored, sizeof(stored)), len);
    memcpy(stored + SEAL_HEADER_LEN, other + SEAL_HEADER_LEN, chunk);
    save("sealed/z.jpg", stored, len);
    assert_refused("sealed/z.jpg", 0, 0, ERROR_INTERNAL);

    save("sealed/z.jpg", noise(1000).data, 1000); /* what is not sealed */
    assert_refused("sealed/z.jpg", 0, 0, ERROR_INTERNAL);
}

TEST_WITH(keys_are_replaced, setup, teardown)
{
    struct bytes all = noise(70000);
    struct error err = {0};
    bool changed;

    (void)state;
    put("sealed/x.jpg", all);
    open_store(KEY_2);
    assert_refused("sealed/x.jpg", 0, 0, ERROR_UNAVAILABLE);
    open_store(KEY_1 KEY_2);
    assert_range("sealed/x.jpg", all, 0, 0);
    put("sealed/new.jpg", all);

    struct seal_keys *keys = seal_keys_load(keys_path, &err);
    size_t len = load("sealed/x.jpg", stored, sizeof(stored));
    memcpy(other, stored, len);
    assert_true(seal_rewrap(keys, "sealed/x.jpg", stored, &changed, &err) && changed);
    assert_memory_equal(stored + SEAL_HEADER_LEN, other + SEAL_HEADER_LEN, len - SEAL_HEADER_LEN);
    save("sealed/x.jpg", stored, len);
    assert_true(seal_rewrap(keys, "sealed/x.jpg", stored, &changed, &err) && !changed);
    assert_fails(err, ERROR_INTERNAL, seal_rewrap(keys, "sealed/y.jpg", stored, &changed, &err));
    seal_keys_free(keys);

    open_store(KEY_2); /* the old one is gone */
    assert_range("sealed/x.jpg", all, 0, 0);
    assert_range("sealed/new.jpg", all, 0, 0);
}

TEST_WITH(without_keys_sealed_objects_are_unavailable, setup, teardown)
{
    struct error err = {0};

    (void)state;
    put("sealed/x.jpg", noise(10));
    open_store(NULL);
    assert_refused("sealed/x.jpg", 0, 0, ERROR_UNAVAILABLE);
    assert_fails(err, ERROR_UNAVAILABLE,
                 store_put(store,
                           &(struct store_put){.key = "sealed/y.jpg",
                                               .content_type = "image/jpeg",
                                               .deadline_ms = soon()},
                           NULL, &err));
    put("x.jpg", noise(10)); /* all else works */
    assert_range("x.jpg", noise(10), 0, 0);
    assert_fails(err, ERROR_UNAVAILABLE, store_head(store, "sealed/x.jpg", soon(), NULL, &err));
    assert_true(store_delete(store, "sealed/x.jpg", soon(), &err));
    assert_refused("sealed/x.jpg", 0, 0, ERROR_NOT_FOUND);
    assert_fails(err, ERROR_NOT_FOUND, store_head(store, "sealed/x.jpg", soon(), NULL, &err));
}

TEST_WITH(what_is_too_large_is_not_read, setup, teardown)
{
    CLEANUP(buffer_done) struct buffer data = {0};
    struct store_get at_most = {.key = "sealed/x.jpg", .max_bytes = 1000, .deadline_ms = soon()};
    struct error err = {0};

    (void)state;
    put("sealed/x.jpg", noise(200000));
    assert_fails(err, ERROR_TOO_LARGE, store_get(store, &at_most, &data, NULL, &err));
    at_most.offset = 150000;
    assert_fails(err, ERROR_TOO_LARGE, store_get(store, &at_most, &data, NULL, &err));
    at_most.length = 1000;
    assert_true(store_get(store, &at_most, &data, NULL, &err));
    assert_int_equal(data.len, 1000);
}

static void assert_no_keys(const char *text, const char *why)
{
    struct error err = {0};

    write_file(keys_path, text, strlen(text));
    assert_null(seal_keys_load(keys_path, &err));
    assert_int_equal(err.code, ERROR_CONFIG);
    if (strstr(err.message, why) == NULL)
        fail_msg("'%s' is not in '%s'", why, err.message);
    assert_null(strstr(err.message, "AAEC")); /* never quoted */
}

TEST_WITH(a_file_of_keys_is_checked, setup, teardown)
{
    char many[257 * (sizeof(KEY_1) - 1) + 1] = "";
    struct error err = {0};
    struct rlimit core;

    (void)state;
    assert_no_keys("", "there is no key in it");
    assert_no_keys(KEY_1 "x\n", "line 2 is not 32 bytes in base64");
    assert_no_keys("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==\n", "line 1 is not");
    assert_no_keys("\n" KEY_1, "line 1 is not");
    for (int i = 0; i < 257; i++)
        memcpy(many + strlen(many), KEY_1, sizeof(KEY_1));
    assert_no_keys(many, "more than 256 keys");
    unlink(keys_path);
    assert_null(seal_keys_load(keys_path, &err));
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    assert_int_equal(core.rlim_max < 2, 1);
}

/* README.md's. */
static void assert_vector(const char *hex, const char *owner)
{
    const size_t len = strlen(hex) / 2;
    struct store_info info;
    struct error err = {0};

    put("sealed/vector", noise(1)); /* the folder */
    for (size_t i = 0; i < len; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &stored[i]), 1);
    save("sealed/vector", stored, len);
    assert_range("sealed/vector", bytes_from_str("darkroom"), 0, 0);
    assert_true(store_head(store, "sealed/vector", soon(), &info, &err));
    assert_string_equal(info.owner, owner);
}

TEST_WITH(the_test_vectors_open, setup, teardown)
{
    (void)state;
    assert_vector("44525345414c310a630dcd2966c4336600000000000000086465666768696a6b6c6d6e6f085a9c25"
                  "3dac10d9762b15a3962824b212935459df39a525ff88f613a7fefb17ab6d277fd068f12fc77d2279"
                  "3d37cb50bf7dc54c4cf2893501618d8aa12e962d2b78ce6175a02e74",
                  "");
    assert_vector("44525345414c320a630dcd2966c4336600000000000000086465666768696a6b6c6d6e6f085a9c25"
                  "3dac10d9762b15a3962824b212935459df39a525ff88f613a7fefb17bd3dddc60e0d2eec8954910a"
                  "3db5e83208fb245995c3d4fd9b7090d6ead74d32442c4cffc2b92872ecc642fc1b8d276f0c01d800"
                  "00ed74d4dc6077614d0bbf5d9b439c98efb60f5a958c0ba54a754d0ac11314702db502126c35111e"
                  "49da61e6a2f12ebe11cbd837ebb633df09a48ce7122fa2bde9ff96f706bf5ad42c30569481fc8030"
                  "b23697838de7f4fc0c78377c4a572fe090d0e7062ade29f79771c830720729d69bb842a903b52ed2"
                  "ee4b8082cc1278ef94f075bb4494a817e4fc922553704696f905da774f9f55e8f891b9bec856a82e"
                  "4dc87bc812c43c77f0d6fef867e6e55a15f3c582e183f9a539a12a9f57c16c3c1f82ff88af57d0dc"
                  "a06e51cb493693182c1262a74c643cda514148d706d58349178470c186d92ea3811d2494bf7dc54c"
                  "4cf2893501618d8aa12e962d2b78ce6175a02e74",
                  "alice");
}

TEST_MAIN(NULL, NULL)
