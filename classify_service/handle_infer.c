/* POST /v2/models/{model}/infer: the items one after the other, each a job of its own, so that a
 * batch holds one worker at a time and stands in the queue like everybody. */
#include "classify.h"
#include "http/encoding.h"
#include "inference.h"

struct read_job {
    const struct manifest *manifest;
    const struct request *req;
    size_t max; /* bytes that the body may unpack to */
    struct decoded_body *body;
    struct inference_request *request;
};

static bool run_read(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct read_job *job = arg;
    struct request plain = *job->req;

    (void)state;
    (void)cancelled;
    if (!body_decode(job->req, job->max, job->body, err))
        return false;
    plain.body = job->body->bytes;
    return inference_request_read(job->manifest, &plain, job->request, err);
}

struct pack_job {
    struct reply *reply;
    enum coding coding;
};

static bool run_pack(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct pack_job *job = arg;

    (void)state;
    (void)cancelled;
    return reply_encode(job->reply, job->coding, err);
}

/* In the coding that the client asks for. Without a worker or memory for it: as it is. */
static struct reply packed(const struct app *app, const struct request *req, struct reply reply)
{
    struct pack_job pack = {&reply, encoding_accepted(req)};
    struct error ignored;

    if (pack.coding != CODING_IDENTITY && reply.status == 200)
        (void)!worker_pool_run(app->service.pool, &(struct pool_job){.run = run_pack, .arg = &pack},
                               req->context.deadline_ms, &ignored);
    return reply;
}

static bool infer_images(const struct app *app, const struct context *ctx,
                         const struct inference_request *request, float *scores, struct error *err)
{
    CLEANUP(buffer_done) struct buffer scratch = {0};
    const size_t count = model_manifest(app->model)->label_count;
    struct bytes image;

    for (size_t i = 0; i < request->items; i++)
        if (!inference_request_image(request, i, &scratch, &image, err) ||
            !classify_scores(app, ctx, image, NULL, scores + i * count, err))
            return error_wrap(err, "item %zu", i);
    return true;
}

static bool infer_tensors(const struct app *app, const struct context *ctx,
                          const struct inference_request *request, float *scores, struct error *err)
{
    const struct manifest *manifest = model_manifest(app->model);
    const size_t count = manifest_input_count(manifest);
    CLEANUP_FREE float *tensor = calloc(count, sizeof(*tensor));

    if (tensor == NULL)
        return error_oom(err);
    for (size_t i = 0; i < request->items; i++)
        if (!inference_request_tensor(request, i, count, tensor, err) ||
            !classify_scores(app, ctx, bytes_of(NULL, 0), tensor,
                             scores + i * manifest->label_count, err))
            return error_wrap(err, "item %zu", i);
    return true;
}

bool inference_scores(const struct app *app, const struct context *ctx,
                      const struct inference_request *request, float **ret, struct error *err)
{
    const size_t count = model_manifest(app->model)->label_count;
    CLEANUP_FREE float *scores = calloc(request->items, count * sizeof(*scores));

    if (scores == NULL)
        return error_oom(err);
    if (!(request->is_tensor ? infer_tensors(app, ctx, request, scores, err)
                             : infer_images(app, ctx, request, scores, err)))
        return false;
    *ret = TAKE_PTR(scores);
    return true;
}

struct reply handle_infer(const struct app *app, const struct request *req)
{
    CLEANUP(decoded_body_done) struct decoded_body body = {0};
    CLEANUP(inference_request_done) struct inference_request request = {0};
    CLEANUP_FREE float *scores = NULL;
    const struct manifest *manifest = model_manifest(app->model);
    struct error err = {0};
    struct reply reply;

    if (!inference_names_model(app, req, &reply))
        return reply;
    struct read_job read = {manifest, req, (size_t)app->service.settings.max_body_bytes, &body,
                            &request};
    if (!worker_pool_run(app->service.pool, &(struct pool_job){.run = run_read, .arg = &read},
                         req->context.deadline_ms, &err))
        return reply_error(&err);
    if (!inference_scores(app, &req->context, &request, &scores, &err))
        return reply_error(&err);
    return packed(app, req, inference_reply_infer(manifest, &request, scores));
}
