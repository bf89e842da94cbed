#include "workers/image_job.h"

#include <string.h>

_Static_assert(sizeof(struct image_job_message) <= SANDBOX_OPTIONS_MAX, "fits");
_Static_assert(sizeof(struct image_answer) <= SANDBOX_ANSWER_MAX, "fits");

static bool preload(struct error *err)
{
    if (!image_start(err))
        return false;
    image_preload();
    return true;
}

static bool state_new(void **state, struct error *err)
{
    *state = image_scratch_new(err);
    return *state != NULL;
}

static void answer(struct sandbox_reply *reply, const struct image_answer *answer)
{
    memcpy(reply->answer, answer, sizeof(*answer));
    reply->answer_len = sizeof(*answer);
}

static bool transform(struct image_scratch *scratch, const struct image_input *input,
                      const struct image_options *options, struct sandbox_reply *reply,
                      struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};

    if (!image_transform(scratch, input, options, &image, err))
        return false;
    if (image.len > reply->output.max)
        return error_set(err, ERROR_TOO_LARGE, "the result is larger than %zu bytes",
                         reply->output.max);
    answer(reply, &(struct image_answer){image.width, image.height, image.stages});
    return buffer_append(&reply->output, image.data, image.len, err);
}

static bool to_pixels(struct image_scratch *scratch, const struct image_input *input,
                      const struct image_tensor_spec *spec, struct sandbox_reply *reply,
                      struct error *err)
{
    struct image_stages stages;
    size_t size = image_pixels_bytes(spec);

    if (size > reply->output.max)
        return error_set(err, ERROR_INTERNAL, "a tensor that large");
    if (!image_to_pixels(scratch, input, spec, reply->output.data, &stages, err))
        return false;
    reply->output.len = size;
    answer(reply, &(struct image_answer){spec->width, spec->height, stages});
    return true;
}

static bool run(void *scratch, const struct sandbox_request *request, struct sandbox_reply *reply,
                struct error *err)
{
    struct image_job_message job;

    if (request->options.len != sizeof(job))
        return error_set(err, ERROR_INTERNAL, "a request of another length");
    memcpy(&job, request->options.data, sizeof(job));
    struct image_input input = {request->input, &job.limits, request->cancelled};
    bool ok = job.what == IMAGE_TRANSFORM ? transform(scratch, &input, &job.options, reply, err)
                                          : to_pixels(scratch, &input, &job.spec, reply, err);
    if (!ok && err->code == ERROR_OVERLOADED)
        _exit(IMAGE_JOB_OUT_OF_MEMORY);
    return ok;
}

const struct sandbox_code image_job_code = {
    .preload = preload,
    .state_new = state_new,
    .run = run,
};
