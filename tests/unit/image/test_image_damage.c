/* Files that are not whole, calls that are cut short, calls at the same time. */
#include "../test_cases.h"
#include "test_image_samples.h"

#include "base/clock.h"

#include <dirent.h>
#include <pthread.h>
#include <string.h>

static const struct image_tensor_spec test_spec = {
    .width = 32, .height = 32, .short_side = 40, .nchw = true, .std = {1, 1, 1}};

/* Both operations say the same about `data`. */
static bool decodes(struct bytes data, enum error_code *code)
{
    struct image_options o = options_of(32, 32, IMAGE_COVER, IMAGE_JPEG);
    CLEANUP(image_result_done) struct image_result r = {0};
    static uint8_t pixels[3 * 32 * 32];
    struct image_stages stages;
    struct image_input input = test_input(data);
    struct error a = {0}, b = {0};
    bool ok = image_transform(test_scratch, &input, &o, &r, &a);

    assert_int_equal(image_to_pixels(test_scratch, &input, &test_spec, pixels, &stages, &b), ok);
    assert_int_equal(a.code, b.code);
    *code = a.code;
    return ok;
}

static const char *const suffixes[] = {
    ".jpg[Q=90]",
    ".jpg[Q=90,interlace]",
    ".jpg[Q=90,subsample_mode=off]",
    ".png",
    ".png[interlace]",
    ".webp",
    ".webp[lossless]",
    ".gif",
    ".tif",
    ".tif[compression=deflate]",
    ".tif[compression=jpeg,tile,tile_width=64,tile_height=64]",
    ".heic",
    ".avif[effort=0]",
};

static void assert_cut_is_refused(struct sample s, size_t len, const char *what)
{
    CLEANUP_FREE uint8_t *copy = malloc(len + 1); /* so that asan sees the end */
    enum error_code code;

    memcpy(copy, s.data, len);
    if (decodes(bytes_of(copy, len), &code))
        fail_msg("%s cut to %zu of %zu bytes passes", what, len, s.len);
    assert_int_equal(code, len < 12 ? code : ERROR_BAD_IMAGE);
}

/* Tall and wide: a centre crop does not need the tail. Large: JPEG shrinks on load. Each is cut at
 * places of its own. */
TEST(test_truncated)
{
    static const int sizes[][2] = {{80, 400}, {400, 80}, {700, 500}};

    for (size_t i = 0; i < ARRAY_SIZE(suffixes) * ARRAY_SIZE(sizes); i++) {
        const int *size = sizes[i / ARRAY_SIZE(suffixes)];
        const char *suffix = suffixes[i % ARRAY_SIZE(suffixes)];
        enum error_code code;

        if (!can_make(suffix))
            continue;
        SAMPLE s = save_sample(draw_noise(size[0], size[1]), suffix);

        if (!decodes(sample_bytes(s), &code))
            fail_msg("%s whole does not pass", suffix);
        for (size_t percent = 5 + 5 * (i / ARRAY_SIZE(suffixes)); percent < 100; percent += 15)
            assert_cut_is_refused(s, s.len * percent / 100, suffix);
    }
}

TEST(test_cut_near_the_end)
{
    static const char *const formats[] = {".jpg[Q=90,strip]", ".jpg[interlace,strip]", ".webp",
                                          ".webp[lossless]"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        SAMPLE s = save_sample(draw_noise(80, 300), formats[i]);

        for (size_t cut = 1; cut < 40; cut++)
            assert_cut_is_refused(s, s.len - cut, formats[i]);
    }
}

/* What a repair tool does to a truncated JPEG: an end marker makes it look whole. */
TEST(test_truncated_jpeg_with_end_marker)
{
    static const char *const formats[] = {".jpg[Q=90]", ".jpg[Q=90,interlace]"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        SAMPLE s = save_sample(draw_noise(700, 500), formats[i]);

        for (size_t percent = 30; percent < 100; percent += 5) {
            size_t len = s.len * percent / 100;
            CLEANUP_FREE uint8_t *copy = malloc(len + 2);
            enum error_code code;

            memcpy(copy, s.data, len);
            memcpy(copy + len, "\xff\xd9", 2);
            if (decodes(bytes_of(copy, len + 2), &code))
                fail_msg("%s at %zu %% and an end marker pass", formats[i], percent);
        }
    }
}

/* Other bytes where data was: checksums notice, or a Huffman code that does not exist. */
TEST(test_corrupt)
{
    static const char *const formats[] = {".jpg[Q=90]", ".png", ".tif[compression=deflate]"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        for (size_t percent = 30; percent < 80; percent += 10) {
            SAMPLE s = save_sample(draw_noise(200, 300), formats[i]);
            enum error_code code;

            for (size_t k = 0; k < s.len / 10; k++)
                ((uint8_t *)s.data)[s.len * percent / 100 + k] ^= (uint8_t)(0x5a + 37 * k);
            if (decodes(sample_bytes(s), &code))
                fail_msg("%s with other bytes at %zu %% passes", formats[i], percent);
            assert_int_equal(code, ERROR_BAD_IMAGE);
        }
    }
}

/* Bytes after the end of a JPEG are somebody else's (cameras put previews and films there). */
TEST(test_trailing_bytes)
{
    static const char *const formats[] = {".jpg", ".jpg[interlace]", ".png"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        SAMPLE s = save_sample(draw_noise(100, 100), formats[i]);
        CLEANUP_FREE uint8_t *copy = calloc(1, s.len + 5000);
        enum error_code code;

        memcpy(copy, s.data, s.len);
        memset(copy + s.len, 0xab, 100);
        assert_true(decodes(bytes_of(copy, s.len + 5000), &code));
    }
}

static void assert_photo_decodes(const char *folder, const char *name)
{
    char path[512];
    void *data = NULL;
    size_t len = 0;
    enum error_code code;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_true(g_file_get_contents(path, (char **)&data, &len, NULL));
    if (!decodes(bytes_of(data, len), &code))
        fail_msg("%s: %s", name, error_slug(code));
    g_free(data);
}

TEST(test_photographs)
{
    const char *folder = "../shared/photos";
    DIR *dir = opendir(folder);
    int count = 0;

    if (dir == NULL)
        SKIP("no photographs");
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.' || g_str_has_suffix(entry->d_name, ".tsv"))
            continue;
        assert_photo_decodes(folder, entry->d_name);
        count++;
    }
    closedir(dir);
    assert_true(count > 10);
}

TEST(test_cancelled_before)
{
    SAMPLE s = save_sample(draw_noise(100, 100), ".jpg");
    struct image_options o = image_options_default();
    struct image_result r = {0};
    struct error err = {0};
    atomic_bool cancelled = true;
    uint8_t pixels[3 * 32 * 32];
    struct image_stages stages;
    struct image_input input = {sample_bytes(s), &test_limits, &cancelled, 0};

    assert_fails(err, ERROR_DEADLINE, image_transform(test_scratch, &input, &o, &r, &err));
    assert_null(r.data);
    err.code = ERROR_NONE;
    assert_fails(err, ERROR_DEADLINE,
                 image_to_pixels(test_scratch, &input, &test_spec, pixels, &stages, &err));
}

struct later {
    atomic_bool cancelled;
    unsigned after_ms;
    int64_t worked_ms; /* this process, when that was */
    pthread_t thread;
};

/* Not the clock: others may keep the processors busy. */
static int64_t worked_ms(void)
{
    return (int64_t)clock() * 1000 / CLOCKS_PER_SEC;
}

static void *cancel_later(void *arg)
{
    struct later *later = arg;

    g_usleep(later->after_ms * 1000UL);
    later->worked_ms = worked_ms();
    atomic_store(&later->cancelled, true);
    return NULL;
}

/* 16 megapixels of PNG out take seconds; cancelled in any phase it takes far less. */
TEST(test_cancelled_during)
{
    static const unsigned moments[] = {5, 30, 100, 300, 600};
    SAMPLE s = save_sample(draw_noise(1000, 1000), ".png");

    for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
        struct image_options o = options_of(4000, 4000, IMAGE_FILL, IMAGE_PNG);
        struct later later = {.after_ms = moments[i]};
        struct image_input input = {sample_bytes(s), &test_limits, &later.cancelled, 0};
        struct image_result r = {0};
        struct error err = {0};

        assert_int_equal(pthread_create(&later.thread, NULL, cancel_later, &later), 0);
        assert_fails(err, ERROR_DEADLINE, image_transform(test_scratch, &input, &o, &r, &err));
        pthread_join(later.thread, NULL);
        assert_true(worked_ms() - later.worked_ms < 500);
    }
}

struct job {
    struct sample sample;
    const struct image_result *expected;
    bool same;
};

static void *transform_often(void *arg)
{
    struct job *job = arg;
    struct image_options o = image_options_default();
    struct image_input input = test_input(sample_bytes(job->sample));
    struct error e = {0};
    struct image_scratch *worker = image_scratch_new(&e);

    job->same = worker != NULL;
    for (int i = 0; i < 20 && job->same; i++) {
        CLEANUP(image_result_done) struct image_result r = {0};
        struct error err = {0};

        job->same &= image_transform(worker, &input, &o, &r, &err) && r.len == job->expected->len &&
                     memcmp(r.data, job->expected->data, r.len) == 0;
    }
    image_scratch_free(worker);
    return NULL;
}

TEST(test_eight_threads)
{
    static const char *const formats[] = {".jpg", ".jpg[interlace]", ".png", ".webp"};
    struct sample samples[4];
    struct image_result expected[4] = {{0}};
    struct job jobs[8];
    pthread_t threads[8];
    struct image_options o = image_options_default();

    for (int i = 0; i < 4; i++) {
        samples[i] = save_sample(draw_noise(300 + 50 * i, 400), formats[i]);
        transform_ok(samples[i], &o, &expected[i]);
    }
    for (int i = 0; i < 8; i++) {
        jobs[i] = (struct job){samples[i % 4], &expected[i % 4], false};
        assert_int_equal(pthread_create(&threads[i], NULL, transform_often, &jobs[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].same);
    }
    for (int i = 0; i < 4; i++) {
        image_result_done(&expected[i]);
        sample_done(&samples[i]);
    }
}

TEST_MAIN(start_images, stop_images)
