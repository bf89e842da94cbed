#include "../test_cases.h"
#include "base/xmalloc.h"
#include "model/model.h"
#include "model/outputs.h"

#include <math.h>
#include <pthread.h>

#include <jansson.h>

/* `make model` makes it; the test runs in the repository's root. */
static const char manifest_path[] = "build/models/model.json";

static struct model *model;

static int setup(void **state)
{
    struct error err = {0};

    if (access(manifest_path, R_OK) != 0) {
        fprintf(stderr, "SKIPPED: %s is missing: `make model` makes it\n", manifest_path);
        return 0;
    }
    model = model_open(manifest_path, MANIFEST_CLASSIFIER, &err);
    if (model == NULL)
        fprintf(stderr, "%s\n", err.message);
    return model != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    model_free(model);
    return 0;
}

static void need_model(void)
{
    if (model == NULL)
        SKIP("no model");
}

static size_t input_size(void)
{
    const struct image_tensor_spec *spec = &model_manifest(model)->input;

    return (size_t)3 * (size_t)spec->width * (size_t)spec->height;
}

/* A pattern of its own for each seed. */
static void fill(struct model_tensors *tensors, int seed)
{
    float *input = model_input(tensors);

    for (size_t i = 0; i < input_size(); i++)
        input[i] = sinf((float)(i % 977) * 0.01F * (float)(seed + 1));
}

TEST(test_manifest)
{
    need_model();
    const struct manifest *m = model_manifest(model);
    json_t *made = json_load_file(manifest_path, 0, NULL); /* whichever model that was */
    assert_non_null(made);
    assert_string_equal(m->name, json_string_value(json_object_get(made, "name")));
    json_decref(made);
    assert_int_equal(m->label_count, 1000);
    assert_string_equal(m->labels[0], "tench, Tinca tinca");
    assert_int_equal(m->input.width, 224);
    assert_int_equal(m->input.height, 224);
    assert_int_equal(m->input.short_side, 256);
}

TEST(test_scores_are_probabilities)
{
    struct error err = {0};
    const float *scores;
    double sum = 0;

    need_model();
    CLEANUP_FREE float *first = calloc(1000, sizeof(float));
    struct model_tensors *tensors = model_tensors_new(model, &err);
    assert_non_null(tensors);
    fill(tensors, 1);
    assert_true(model_run(model, tensors, &scores, &err));
    for (size_t i = 0; i < 1000; i++) {
        assert_true(scores[i] >= 0 && scores[i] <= 1);
        sum += (double)scores[i];
    }
    assert_true(sum > 0.9 && sum < 1.01); /* the background class has the rest */
    memcpy(first, scores, 1000 * sizeof(float));

    fill(tensors, 2); /* another picture, the same again: nothing is left over */
    assert_true(model_run(model, tensors, &scores, &err));
    assert_memory_not_equal(first, scores, 1000 * sizeof(float));
    fill(tensors, 1);
    assert_true(model_run(model, tensors, &scores, &err));
    assert_memory_equal(first, scores, 1000 * sizeof(float));
    model_tensors_free(tensors);
}

enum { THREADS = 4, RUNS = 6 };

struct work {
    pthread_t thread;
    size_t best[RUNS];
    bool ok;
};

static void *run_many(void *arg)
{
    struct work *work = arg;
    struct error err = {0};
    struct labels labels;
    const float *scores;
    struct model_tensors *tensors = model_tensors_new(model, &err);

    work->ok = tensors != NULL;
    for (int i = 0; i < RUNS && work->ok; i++) {
        fill(tensors, i);
        work->ok = model_run(model, tensors, &scores, &err);
        if (!work->ok)
            break;
        labels_pick(model_manifest(model), scores, 1, &labels);
        work->best[i] = labels.top[0].index;
    }
    model_tensors_free(tensors);
    return NULL;
}

/* One session, a run per thread. */
TEST(test_threads_share_the_model)
{
    struct work work[THREADS + 1] = {0};

    need_model();
    run_many(&work[THREADS]);
    assert_true(work[THREADS].ok);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&work[i].thread, NULL, run_many, &work[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(work[i].thread, NULL);
    for (size_t i = 0; i < THREADS; i++) {
        assert_true(work[i].ok);
        assert_memory_equal(work[i].best, work[THREADS].best, sizeof(work[i].best));
    }
}

/* --- what is refused: a manifest of our own beside a file that is no model --- */

static char folder[] = "/tmp/test_model.XXXXXX";

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void write_file(const char *name, const char *text)
{
    CLEANUP_FREE char *path = path_of(name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void assert_refused(const char *sha256, const char *told)
{
    CLEANUP_FREE char *path = path_of("m.json");
    CLEANUP_FREE char *text = xasprintf(
        "{\"name\":\"x\",\"file\":\"x.onnx\",\"sha256\":\"%s\",\"input\":{\"tensor\":\"in\","
        "\"layout\":\"NCHW\",\"height\":4,\"width\":4,\"mean\":[0,0,0],\"std\":[1,1,1],"
        "\"resize\":{\"short_side\":4,\"crop\":\"center\"}},\"output\":{\"tensor\":\"out\","
        "\"activation\":\"none\",\"drop_first\":0},\"labels\":{\"file\":\"x.txt\"}}",
        sha256);
    struct error err = {0};

    write_file("m.json", text);
    assert_null(model_open(path, MANIFEST_CLASSIFIER, &err));
    assert_int_equal(err.code, ERROR_CONFIG);
    if (strstr(err.message, told) == NULL)
        fail_msg("\"%s\" does not say %s", err.message, told);
}

TEST(test_refused)
{
    static const char *const files[] = {"m.json", "x.onnx", "x.txt"};
    /* printf 'no model' | sha256sum */
    static const char real[] = "f62c7d17e241fe5c5c0c64d2e32ab6e3bd10547a9c02977cc126acc0fe6e6554";
    struct error err = {0};

    assert_non_null(mkdtemp(folder));
    write_file("x.txt", "one\ntwo\n");
    assert_refused(real, "make model"); /* no x.onnx yet */
    write_file("x.onnx", "no model");
    assert_refused("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", real);
    assert_refused(real, "ONNX Runtime");
    assert_null(model_open("/nonexistent/m.json", MANIFEST_CLASSIFIER, &err));
    assert_non_null(strstr(err.message, "make model"));
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        CLEANUP_FREE char *path = path_of(files[i]);
        unlink(path);
    }
    rmdir(folder);
}

TEST_MAIN(setup, teardown)
