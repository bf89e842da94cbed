#include "workers/image_job.h"

#include "workers/image_worker.h"

#include <string.h>

_Static_assert(sizeof(struct image_request) <= SANDBOX_REQUEST_MAX, "fits");
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
    *state = image_worker_new(err);
    return *state != NULL;
}

static void answer(struct sandbox_result *result, const struct image_answer *answer)
{
    memcpy(result->answer, answer, sizeof(*answer));
    result->answer_len = sizeof(*answer);
}

static bool transform(struct image_worker *worker, const struct image_input *input,
                      const struct image_request *request, struct sandbox_result *result,
                      struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};

    if (!image_transform(worker, input, &request->options, &image, err))
        return false;
    if (image.len > result->output_max)
        return error_set(err, ERROR_TOO_LARGE, "the result is larger than %zu bytes",
                         result->output_max);
    memcpy(result->output, image.data, image.len);
    result->output_len = image.len;
    answer(result, &(struct image_answer){image.width, image.height, image.stages});
    return true;
}

static bool to_pixels(struct image_worker *worker, const struct image_input *input,
                      const struct image_request *request, struct sandbox_result *result,
                      struct error *err)
{
    const struct image_tensor_spec *spec = &request->spec;
    struct image_stages stages;
    size_t size = image_pixels_bytes(spec);

    if (size > result->output_max)
        return error_set(err, ERROR_INTERNAL, "a tensor that large");
    if (!image_to_pixels(worker, input, spec, result->output, &stages, err))
        return false;
    result->output_len = size;
    answer(result, &(struct image_answer){spec->width, spec->height, stages});
    return true;
}

static bool run(void *state, const struct sandbox_task *task, struct sandbox_result *result,
                struct error *err)
{
    struct image_request request;

    if (task->request.len != sizeof(request))
        return error_set(err, ERROR_INTERNAL, "a request of another length");
    memcpy(&request, task->request.data, sizeof(request));
    struct image_input input = {task->input, &request.limits, task->cancelled};
    bool ok = (request.what == IMAGE_TRANSFORM ? transform : to_pixels)(state, &input, &request,
                                                                        result, err);
    if (!ok && err->code == ERROR_OVERLOADED)
        _exit(IMAGE_PROCESS_OUT_OF_MEMORY);
    return ok;
}

const struct sandbox_code image_process_code = {
    .preload = preload,
    .state_new = state_new,
    .run = run,
};
