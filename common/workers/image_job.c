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

static size_t pixels_of(struct image_size size)
{
    return (size_t)size.width * (size_t)size.height;
}

/* In one step, or the last of two. */
static bool transform(struct image_scratch *scratch, const struct image_input *input,
                      const struct image_job_message *job, struct sandbox_reply *reply,
                      struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};
    const struct image_mask mask = {input->data.data, job->mask};

    if (job->what == IMAGE_CUT_FINISH && input->data.len != pixels_of(job->mask))
        return error_set(err, ERROR_INTERNAL, "a mask of another size");
    if (!(job->what == IMAGE_CUT_FINISH
              ? image_cut_finish(scratch, &mask, &job->options, input->cancelled, &image, err)
              : image_transform(scratch, input, &job->options, &image, err)))
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

static bool cut_begin(struct image_scratch *scratch, const struct image_input *input,
                      const struct image_job_message *job, struct sandbox_reply *reply,
                      struct error *err)
{
    struct image_stages stages;
    size_t size = 3 * pixels_of(job->mask);

    if (size > reply->output.max)
        return error_set(err, ERROR_INTERNAL, "a mask that large");
    if (!image_cut_begin(scratch, input, &job->options, job->mask, reply->output.data, &stages,
                         err))
        return false;
    reply->output.len = size;
    answer(reply, &(struct image_answer){job->mask.width, job->mask.height, stages});
    return true;
}

static bool run_job(struct image_scratch *scratch, const struct image_input *input,
                    const struct image_job_message *job, struct sandbox_reply *reply,
                    struct error *err)
{
    switch (job->what) {
    case IMAGE_TO_PIXELS:
        return to_pixels(scratch, input, &job->spec, reply, err);
    case IMAGE_CUT_BEGIN:
        return cut_begin(scratch, input, job, reply, err);
    case IMAGE_TRANSFORM:
    case IMAGE_CUT_FINISH:
        break;
    }
    return transform(scratch, input, job, reply, err);
}

static bool run(void *scratch, const struct sandbox_request *request, struct sandbox_reply *reply,
                struct error *err)
{
    struct image_job_message job;

    if (request->options.len != sizeof(job))
        return error_set(err, ERROR_INTERNAL, "a request of another length");
    memcpy(&job, request->options.data, sizeof(job));
    struct image_input input = {request->input, &job.limits, request->cancelled, job.threads};
    bool ok = run_job(scratch, &input, &job, reply, err);
    if (!ok && err->code == ERROR_OVERLOADED)
        _exit(IMAGE_JOB_OUT_OF_MEMORY);
    return ok;
}

const struct sandbox_code image_job_code = {
    .preload = preload,
    .state_new = state_new,
    .run = run,
};
