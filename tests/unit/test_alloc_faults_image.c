/* Memory runs out where images are decoded, on the worker pool, in the server, and in what is pure
 * of classify_service (see alloc_faults.h). Ordinary JPEGs only: libjpeg's and libvips' memory is
 * their own. */
#include "alloc_faults.h"

#include "../../classify_service/inference.h"
#include "base/clock.h"
#include "http/server.h"
#include "image/resample/resample.h"
#include "image/test_image_samples.h"
#include "model/outputs.h"
#include "workers/worker_pool.h"

#include <sys/stat.h>

static struct sample picture;

/* ---- images */

static bool transform_once(void *ctx, struct error *err)
{
    struct image_scratch *worker = ctx != NULL ? ctx : image_scratch_new(err);
    struct image_options options = options_of(60, 40, IMAGE_CONTAIN, IMAGE_JPEG);
    struct image_input input = test_input(sample_bytes(picture));
    CLEANUP(image_result_done) struct image_result result = {0};

    if (worker == NULL)
        return false;
    bool ok = image_transform(worker, &input, &options, &result, err);
    assert_true(ok == (result.data != NULL));
    if (ok)
        assert_true(result.width == 60 && result.height == 40 && result.len > 100);
    if (ctx == NULL)
        image_scratch_free(worker);
    return ok;
}

/* The whole picture, twice, and what each operation needs besides. */
static bool operate_once(void *ctx, struct error *err)
{
    static const char *const asked[][2] = {{"median", "9"}, {"mean", "5"}, {"rotate", "30"}};
    struct image_options options = options_of(60, 40, IMAGE_CONTAIN, IMAGE_JPEG);
    struct image_input input = test_input(sample_bytes(picture));
    CLEANUP(image_result_done) struct image_result result = {0};
    struct image_scratch *worker = image_scratch_new(err);

    if (worker == NULL)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
        assert_true(image_options_set(&options, asked[i][0], asked[i][1], err));
    bool ok = image_transform(worker, &input, &options, &result, err);
    assert_true(ok == (result.data != NULL));
    image_scratch_free(worker);
    return ok;
}

static bool tensor_once(void *ctx, struct error *err)
{
    static uint8_t pixels[3 * 32 * 32];
    struct image_stages stages;
    const struct image_tensor_spec spec = {32, 32, 40, true, {0}, {1, 1, 1}};
    struct image_scratch *worker = image_scratch_new(err);
    struct image_input input = test_input(sample_bytes(picture));

    if (worker == NULL)
        return false;
    bool ok = image_to_pixels(worker, &input, &spec, pixels, &stages, err);
    image_scratch_free(worker);
    return ok;
}

static bool resample_once(void *ctx, struct error *err)
{
    static uint8_t out[20 * 20 * 3];
    const struct resample_plan plan = {.src_width = 500,
                                       .src_height = 500,
                                       .width = 500,
                                       .height = 500,
                                       .out_width = 20,
                                       .out_height = 20,
                                       .out = out,
                                       .out_stride = 60};
    struct resample own = {0};
    struct resample *r = ctx != NULL ? ctx : &own;
    bool ok = resample_begin(r, &plan, err);

    resample_done(r);
    return ok;
}

TEST_WITH(test_images, NULL, alloc_faults_teardown)
{
    struct error err = {0};
    struct resample kept = {0};
    struct image_scratch *worker = image_scratch_new(&err);

    assert_non_null(worker);
    alloc_faults_run("transform", transform_once, NULL);
    alloc_faults_run("operate", operate_once, NULL);
    alloc_faults_run("tensor", tensor_once, NULL);
    alloc_faults_run("resample", resample_once, NULL);
    alloc_faults_run("resample again", resample_once, &kept);
    /* a worker goes on with the next image */
    for (int n = 1; n < 20; n++) {
        alloc_arm(n, true);
        err.code = ERROR_NONE;
        if (!transform_once(worker, &err))
            assert_int_equal(err.code, ERROR_OVERLOADED);
        alloc_arm(0, false);
        assert_true(transform_once(worker, &err));
    }
    image_scratch_free(worker);
}

/* ---- threads */

static void *state_new(void *ctx, struct error *err)
{
    void *state = malloc(8);

    if (state == NULL)
        error_oom(err);
    return state;
}

static bool do_job(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    assert_non_null(state);
    ++*(int *)arg;
    return true;
}

static bool use_pool(void *ctx, struct error *err)
{
    int jobs = 0;
    const struct worker_pool_options options = {
        .workers = 3, .queue_max = 2, .state_new = state_new, .state_free = free};
    struct worker_pool *pool = worker_pool_new(&options, err);

    if (pool == NULL)
        return false;
    bool ok = worker_pool_run(pool, &(struct pool_job){.run = do_job, .arg = &jobs},
                              clock_monotonic_ms() + 10000, err);
    worker_pool_free(pool);
    assert_int_equal(jobs, ok ? 1 : 0);
    return ok;
}

static bool serve(void *ctx, struct error *err)
{
    struct byte_budget budget = {.max = 1 << 20};
    struct server *ready = NULL;
    const struct server_options options = {.host = "127.0.0.1",
                                           .max_body_bytes = 1000,
                                           .max_connections = 10,
                                           .max_inflight = 10,
                                           .request_timeout_ms = 1000,
                                           .budget = &budget,
                                           .cors_origins = "",
                                           .ready = &ready};
    struct server *server = server_start(&options, err);

    assert_ptr_equal(ready, server); /* no pointer to one that did not start */
    server_stop(server);
    return server != NULL;
}

TEST_WITH(test_threads, NULL, alloc_faults_teardown)
{
    alloc_faults_run("worker pool", use_pool, NULL);
    alloc_faults_run("server", serve, NULL);
}

/* ---- classify_service */

static char first[] = "one, 1", second[] = "two";
static char *names[] = {first, second};
static const struct manifest small = {.name = "m",
                                      .input = {.width = 1, .height = 1, .nchw = true},
                                      .labels = names,
                                      .label_count = 2};

static bool read_v2(void *ctx, struct error *err)
{
    static const char body[] =
        "{\"id\":\"7\",\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\",\"shape\":[1],"
        "\"data\":[\"aGVsbG8=\"]}],\"outputs\":[{\"name\":\"scores\","
        "\"parameters\":{\"classification\":1}}]}";
    struct byte_budget budget = {.max = 1 << 20};
    const struct request req = {.body = bytes_of(body, sizeof(body) - 1),
                                .context = {.budget = &budget}};
    CLEANUP(buffer_done) struct buffer scratch = BUFFER_MAX(1000);
    const float scores[] = {0.25F, 0.75F};
    struct inference_request v2 = {0};
    struct bytes image;

    if (!inference_request_read(&small, &req, &v2, err)) {
        assert_int_equal(budget.used, 0);
        return false;
    }
    bool ok = inference_request_image(&v2, 0, &scratch, &image, err);
    if (ok) {
        assert_true(bytes_equal(image, bytes_from_str("hello")));
        CLEANUP(reply_done) struct reply reply = inference_reply_infer(&small, &v2, scores);
        assert_true(reply.status == 200 || reply.status == 503);
        ok = reply.status == 200 || error_oom(err);
    }
    inference_request_done(&v2);
    assert_int_equal(budget.used, 0);
    return ok;
}

TEST_WITH(test_classify, NULL, alloc_faults_teardown)
{
    alloc_faults_run("inference request", read_v2, NULL);
}

static int begin(void **state)
{
    alloc_faults_hook();
    if (start_images(state) != 0)
        return -1;
    picture = save_sample(draw_quarters(200, 100), ".jpg[Q=90]");
    return 0;
}

static int end(void **state)
{
    sample_done(&picture);
    return stop_images(state);
}

TEST_MAIN(begin, end)
