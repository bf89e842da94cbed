/* Image work in a process that says what it likes: one that was taken over. */
#include "../test_cases.h"
#include "base/clock.h"
#include "base/log.h"
#include "workers/image_worker.h"

#include <math.h>
#include <signal.h>

enum { SIDE = 16, TENSOR = 3 * SIDE * SIDE };

static const struct image_tensor_spec spec = {
    .width = SIDE, .height = SIDE, .short_side = SIDE, .std = {1, 1, 1}};
static const uint8_t jpeg[] = {0xff, 0xd8, 0xff, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8};

/* What the process answers is written to the input: this, then the output. */
struct script {
    struct image_answer answer;
    size_t answer_len;
    size_t output_len;
    size_t output_claimed;
    bool exit_memory;
};

static int calls;

static bool run_script(void *state, const struct sandbox_request *request,
                       struct sandbox_reply *reply, struct error *err)
{
    struct script script;

    calls++;
    memcpy(&script, request->input.data, sizeof(script));
    if (script.exit_memory)
        _exit(IMAGE_JOB_OUT_OF_MEMORY);
    memcpy(reply->answer, &script.answer, sizeof(script.answer));
    reply->answer_len = script.answer_len;
    memcpy(reply->output.data, request->input.data + sizeof(script), script.output_len);
    reply->output.len = script.output_claimed;
    /* how often this process was asked */
    if (script.answer.width == -1) {
        ((struct image_answer *)(void *)reply->answer)->width = calls;
        ((struct image_answer *)(void *)reply->answer)->height = 1;
    }
    return true;
}

static const struct sandbox_code code = {.run = run_script};
static struct image_worker_options options = {
    .limits = {.max_pixels = 1000, .max_decode_bytes = 1 << 20},
    .input_max = 65536,
    .output_max = TENSOR,
};
static struct image_worker *worker;

static struct script good_transform(void)
{
    return (struct script){
        .answer = {.width = 10, .height = 20, .stages = {0, 0, 0}},
        .answer_len = sizeof(struct image_answer),
        .output_len = sizeof(jpeg),
        .output_claimed = sizeof(jpeg),
    };
}

static struct script good_tensor(void)
{
    return (struct script){
        .answer = {.width = SIDE, .height = SIDE},
        .answer_len = sizeof(struct image_answer),
        .output_len = options.output_max,
        .output_claimed = options.output_max,
    };
}

static struct image_job job_of(const struct script *script, uint8_t *space, const void *output)
{
    memcpy(space, script, sizeof(*script));
    memcpy(space + sizeof(*script), output, script->output_len);
    return (struct image_job){
        .data = bytes_of(space, sizeof(*script) + script->output_len),
        .deadline_ms = clock_monotonic_ms() + 60000,
        .request_id = "test",
    };
}

static bool transform(const struct script *script, const void *output, struct image_result *ret,
                      struct error *err)
{
    static uint8_t space[sizeof(*script) + TENSOR];
    const struct image_options jpeg_options = image_options_default();
    struct image_job job = job_of(script, space, output);

    job.options = &jpeg_options;
    return image_worker_transform(worker, &job, ret, err);
}

TEST(an_honest_answer_is_taken)
{
    struct script script = good_transform();
    struct image_result result = {0};
    struct error err = {0};

    if (!transform(&script, jpeg, &result, &err))
        fail_msg("%s", err.message);
    assert_int_equal(result.width, 10);
    assert_int_equal(result.height, 20);
    assert_int_equal(result.len, sizeof(jpeg));
    assert_memory_equal(result.data, jpeg, sizeof(jpeg));
    image_result_done(&result);
}

static void expect_rejection(const struct script *script, const void *output)
{
    struct image_result result = {0};
    struct error err = {0};

    assert_fails(err, ERROR_BAD_IMAGE, transform(script, output, &result, &err));
    assert_null(result.data);
    an_honest_answer_is_taken(NULL);
}

TEST(what_cannot_be_is_refused)
{
    static const int sizes[][2] = {
        {0, 1}, {1, 0}, {-1, -1}, {65536, 1}, {1, 65536}, {65535, 65535}, {4001, 4000}, {-5, 3},
    };
    struct script script;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        script = good_transform();
        script.answer.width = sizes[i][0];
        script.answer.height = sizes[i][1];
        if (sizes[i][0] == -1) /* means something else to the process */
            continue;
        expect_rejection(&script, jpeg);
    }
    script = good_transform();
    script.answer_len = 0;
    expect_rejection(&script, jpeg);
    script = good_transform();
    script.answer_len = SANDBOX_ANSWER_MAX;
    expect_rejection(&script, jpeg);
    script = good_transform();
    script.output_claimed = script.output_len = 0;
    expect_rejection(&script, jpeg);
    script = good_transform();
    script.output_claimed = options.output_max + 1;
    expect_rejection(&script, jpeg);
    script = good_transform();
    expect_rejection(&script, "\x89PNG\r\n\x1a\n____");
    expect_rejection(&script, "<html>______");
    script.exit_memory = true;
    expect_rejection(&script, jpeg);
}

TEST(stages_are_seconds_of_the_call)
{
    static const double said[] = {NAN, INFINITY, -INFINITY, 1e300, -5};
    struct script script = good_transform();

    for (size_t i = 0; i < ARRAY_SIZE(said); i++) {
        struct image_result result = {0};
        struct error err = {0};

        script.answer.stages = (struct image_stages){said[i], said[i], said[i]};
        assert_true(transform(&script, jpeg, &result, &err));
        assert_true(result.stages.decode >= 0 && result.stages.decode < 60);
        assert_true(result.stages.transform >= 0 && result.stages.transform < 60);
        assert_true(result.stages.encode >= 0 && result.stages.encode < 60);
        image_result_done(&result);
    }
}

TEST(a_tensor_is_whole_or_none)
{
    static uint8_t space[sizeof(struct script) + TENSOR];
    static uint8_t sent[TENSOR];
    static float values[TENSOR + 1];
    struct image_tensor tensor = {.values = values};

    for (int i = 0; i < TENSOR; i++)
        sent[i] = (uint8_t)i;
    values[TENSOR] = 4711;
    for (int cut = -1; cut <= 1; cut++) {
        struct script script = good_tensor();
        struct error err = {0};

        script.output_claimed = (size_t)((long)script.output_claimed + cut);
        struct image_job job = job_of(&script, space, sent);
        assert_int_equal(image_worker_to_tensor(worker, &job, &spec, &tensor, &err), cut == 0);
        if (cut != 0)
            assert_int_equal(err.code, ERROR_BAD_IMAGE);
        for (int i = 0; i < TENSOR && cut == 0; i++)
            assert_true(values[i] == (float)sent[i]);
        assert_true(values[TENSOR] == 4711);
    }
}

/* One that was taken over is not there for ever. */
TEST(a_process_serves_so_many_calls)
{
    struct script script = good_transform();
    int most = 0, last = 0;

    script.answer.width = -1;
    for (int i = 0; i < 10050 && last >= most; i++) {
        struct image_result result = {0};
        struct error err = {0};

        if (!transform(&script, jpeg, &result, &err))
            fail_msg("%s", err.message);
        last = result.width;
        most = last > most ? last : most;
        image_result_done(&result);
    }
    assert_int_equal(last, 1);
    assert_in_range(most, 9900, 10000); /* those of one that was lost before count, too */
}

/* The process is told by its input what to answer: here that is the mask. */
static bool find_script(void *context, const uint8_t *rgb, uint8_t *alpha, struct error *err)
{
    (void)rgb;
    (void)err;
    memcpy(alpha, context, sizeof(struct script));
    memcpy(alpha + sizeof(struct script), jpeg, sizeof(jpeg));
    return true;
}

/* A picture waits for its mask in the process, which is not ended between the two, as it would be
 * before another call. */
TEST(a_cut_out_keeps_its_process)
{
    static uint8_t space[sizeof(struct script) + TENSOR], pixels[TENSOR];
    struct image_worker *shared = worker;
    struct image_options cut = image_options_default();
    struct script begin = good_tensor(), counted = good_transform();
    const struct mask_finder finder = {{SIDE, SIDE}, find_script, &counted};
    struct image_result result = {0};
    struct error err = {0};

    counted.answer.width = -1;
    assert_true(image_options_set(&cut, "remove_background", "1", &err));
    worker = image_worker_new(&options, &err);
    assert_non_null(worker);
    for (int i = 0; i < 9999; i++) {
        assert_true(transform(&counted, jpeg, &result, &err));
        image_result_done(&result);
    }
    struct image_job job = job_of(&begin, space, pixels);
    job.options = &cut;
    job.mask_finder = &finder;
    if (!image_worker_transform(worker, &job, &result, &err))
        fail_msg("%s", err.message);
    assert_int_equal(result.width, 10001);
    image_result_done(&result);
    assert_true(transform(&counted, jpeg, &result, &err));
    assert_int_equal(result.width, 1);
    image_result_done(&result);
    image_worker_free(worker);
    worker = shared;
}

int main(void)
{
    struct error err = {0};

    options.sandbox = sandbox_start(&code, &err);
    if (options.sandbox == NULL || (worker = image_worker_new(&options, &err)) == NULL) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    log_init("test", LOG_ERROR, LOG_TEXT);
    int failed = cmocka_run_group_tests(test_cases, NULL, NULL);
    image_worker_free(worker);
    sandbox_stop(options.sandbox);
    return failed;
}
