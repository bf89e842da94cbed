#include "workers/image_worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xmalloc.h"

#include <math.h>
#include <string.h>
#include <sys/sysinfo.h>

enum {
    /* What a process may have, in address space that can be written to. Found by bisection:
     * decoding takes up to 1.9 times the estimate (WebP; 1.0 for AVIF, 0.9 for HEIC), 16 megapixels
     * of WebP as the result 160 MB, 4 of AVIF 65 MB, and no more than 15 MB otherwise. Codecs start
     * a thread a CPU, each with a stack. */
    DECODE_FACTOR = 2,
    OWN_BYTES = 256 * 1024 * 1024,
    CPU_BYTES = 16 * 1024 * 1024,
    /* one that was taken over does not see later images for ever */
    CALLS_MAX = 10000,
    ATTEMPTS = 2,
};

struct image_worker {
    const struct image_worker_options *options;
    struct image_scratch *scratch;   /* SANDBOX=off */
    struct sandbox_process *process; /* NULL: to be started */
    int calls;                       /* of the process */
};

struct image_worker *image_worker_new(const struct image_worker_options *options, struct error *err)
{
    struct image_worker *worker = xcalloc(1, sizeof(*worker));

    worker->options = options;
    if (options->sandbox != NULL || (worker->scratch = image_scratch_new(err)) != NULL)
        return worker;
    image_worker_free(worker);
    return NULL;
}

static void end_process(struct image_worker *worker)
{
    sandbox_process_free(worker->process);
    worker->process = NULL;
    worker->calls = 0;
}

void image_worker_free(struct image_worker *worker)
{
    if (worker == NULL)
        return;
    end_process(worker);
    image_scratch_free(worker->scratch);
    free(worker);
}

static size_t memory_max(const struct image_worker_options *options)
{
    return DECODE_FACTOR * (size_t)options->limits.max_decode_bytes + OWN_BYTES +
           CPU_BYTES * (size_t)get_nprocs_conf();
}

static bool need_process(struct image_worker *worker, struct error *err)
{
    const struct image_worker_options *options = worker->options;

    if (worker->process == NULL)
        worker->process = sandbox_process_new(options->sandbox,
                                              &(struct sandbox_limits){
                                                  .input_max = options->input_max,
                                                  .output_max = options->output_max,
                                                  .memory_max = memory_max(options),
                                              },
                                              err);
    return worker->process != NULL;
}

void image_worker_begin(struct image_worker *worker)
{
    struct error ignored; /* the first call tries again and returns it */

    if (worker->options->sandbox != NULL)
        (void)!need_process(worker, &ignored);
}

static void report(const struct sandbox_loss *loss, const char *request_id)
{
    bool exited = loss->reason == SANDBOX_EXITED;
    const char *reason = exited && loss->detail == IMAGE_JOB_OUT_OF_MEMORY
                             ? "memory"
                             : sandbox_loss_name(loss->reason);
    char labels[METRIC_LABELS_MAX];

    if (loss->reason == SANDBOX_KEPT)
        return;
    snprintf(labels, sizeof(labels), "reason=\"%s\"", reason);
    metric_add(METRIC_SANDBOX_LOSSES, labels, 1);
    log_warning("sandbox process lost", F("request_id", request_id), F("reason", reason),
                F(exited ? "status" : "signal", loss->detail));
}

static bool call(struct image_worker *worker, const struct image_job *job,
                 const struct image_job_message *message, struct sandbox_reply *reply,
                 struct error *err)
{
    const struct sandbox_request request = {
        .options = bytes_of(message, sizeof(*message)),
        .input = job->data,
        .deadline_ms = job->deadline_ms,
        .cancelled = job->cancelled,
    };
    struct error why = {0};

    if (worker->calls >= CALLS_MAX && message->what != IMAGE_CUT_FINISH) /* which has the picture */
        end_process(worker);
    for (int i = 0; i < ATTEMPTS; i++) {
        if (!need_process(worker, err))
            return false;
        worker->calls++;
        bool ok = sandbox_call(worker->process, &request, reply, &why);
        report(&reply->loss, job->request_id);
        if (ok)
            return true;
        /* an operator killed the process, or the kernel did for want of memory: its image need not
         * have been the reason, and gets a second process */
        if (reply->loss.reason != SANDBOX_KILLED || why.code != ERROR_BAD_IMAGE)
            break;
    }
    *err = why;
    return false;
}

/* What the process says is impossible. */
static bool reject_answer(struct image_worker *worker, const struct image_job *job,
                          struct error *err)
{
    end_process(worker);
    report(&(struct sandbox_loss){.reason = SANDBOX_NONSENSE}, job->request_id);
    return error_set(err, ERROR_BAD_IMAGE, "the image cannot be decoded");
}

static bool is_size(int width, int height)
{
    return width > 0 && width <= IMAGE_DIMENSION_MAX && height > 0 &&
           height <= IMAGE_DIMENSION_MAX &&
           (int64_t)width * height <= (int64_t)IMAGE_OUTPUT_PIXELS_MAX;
}

static bool take_answer(const struct sandbox_reply *reply, double most_s, struct image_answer *ret)
{
    if (reply->answer_len != sizeof(*ret))
        return false;
    memcpy(ret, reply->answer, sizeof(*ret));
    double *stages[] = {&ret->stages.decode, &ret->stages.transform, &ret->stages.encode};
    for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
        *stages[i] = fmin(fmax(*stages[i], 0), most_s); /* NaN becomes 0 */
    return true;
}

/* All of it is set: padding, too. */
static void message_of(const struct image_worker *worker, const struct image_job *job,
                       enum image_job_kind what, struct image_job_message *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->limits = worker->options->limits;
    ret->threads = job->threads;
    if (job->options != NULL)
        ret->options = *job->options;
    if (job->mask_finder != NULL)
        ret->mask = job->mask_finder->size;
    ret->what = what;
}

/* A picture for a picture, or, as the last of two steps, for a mask. */
static bool sandboxed_transform(struct image_worker *worker, const struct image_job *job,
                                bool with_mask, struct image_result *ret, struct error *err)
{
    struct sandbox_reply reply = {.output = BUFFER_MAX(worker->options->output_max)};
    struct image_answer answer;
    struct image_job_message message;
    double started = clock_monotonic_s();

    message_of(worker, job, with_mask ? IMAGE_CUT_FINISH : IMAGE_TRANSFORM, &message);
    if (!call(worker, job, &message, &reply, err)) {
        buffer_done(&reply.output);
        return false;
    }
    if (!take_answer(&reply, clock_monotonic_s() - started, &answer) ||
        !is_size(answer.width, answer.height) ||
        image_sniff(buffer_view(&reply.output)) != job->options->format) {
        buffer_done(&reply.output);
        return reject_answer(worker, job, err);
    }
    *ret = (struct image_result){
        .data = reply.output.data,
        .len = reply.output.len,
        .release = free,
        .width = answer.width,
        .height = answer.height,
        .stages = answer.stages,
    };
    return true;
}

/* *rgb: `size` bytes, which is as large as it has to be and so never grows. */
static bool sandboxed_pixels(struct image_worker *worker, const struct image_job *job,
                             const struct image_job_message *message, uint8_t *rgb, size_t size,
                             struct image_stages *ret, struct error *err)
{
    struct sandbox_reply reply = {.output = {.data = rgb, .cap = size, .max = size}};
    struct image_answer answer;
    double started = clock_monotonic_s();

    if (!call(worker, job, message, &reply, err))
        return false;
    if (!take_answer(&reply, clock_monotonic_s() - started, &answer) || reply.output.len != size)
        return reject_answer(worker, job, err);
    *ret = answer.stages;
    return true;
}

static bool remove_background(struct image_worker *worker, const struct image_job *job,
                              struct image_result *ret, struct error *err)
{
    const struct mask_finder *finder = job->mask_finder;
    const struct image_input input = {job->data, &worker->options->limits, job->cancelled,
                                      job->threads};
    const size_t count = (size_t)finder->size.width * (size_t)finder->size.height;
    const bool sandboxed = worker->options->sandbox != NULL;
    CLEANUP_FREE uint8_t *rgb = malloc(3 * count);
    CLEANUP_FREE uint8_t *alpha = malloc(count);
    const struct image_mask mask = {alpha, finder->size};
    struct image_job second = *job;
    struct image_stages first = {0};
    struct image_job_message message;

    message_of(worker, job, IMAGE_CUT_BEGIN, &message);
    second.data = bytes_of(alpha, count);
    if (rgb == NULL || alpha == NULL)
        return error_oom(err);
    if (!(sandboxed ? sandboxed_pixels(worker, job, &message, rgb, 3 * count, &first, err)
                    : image_cut_begin(worker->scratch, &input, job->options, finder->size, rgb,
                                      &first, err)) ||
        !finder->find(finder->context, rgb, alpha, err) ||
        !(sandboxed
              ? sandboxed_transform(worker, &second, true, ret, err)
              : image_cut_finish(worker->scratch, &mask, job->options, job->cancelled, ret, err)))
        return false;
    ret->stages.decode += first.decode;
    ret->stages.transform += first.transform;
    return true;
}

bool image_worker_transform(struct image_worker *worker, const struct image_job *job,
                            struct image_result *ret, struct error *err)
{
    struct image_input input = {job->data, &worker->options->limits, job->cancelled, job->threads};

    if (image_options_cut_out(job->options))
        return remove_background(worker, job, ret, err);
    return worker->options->sandbox != NULL
               ? sandboxed_transform(worker, job, false, ret, err)
               : image_transform(worker->scratch, &input, job->options, ret, err);
}

bool image_worker_to_tensor(struct image_worker *worker, const struct image_job *job,
                            const struct image_tensor_spec *spec, struct image_tensor *ret,
                            struct error *err)
{
    struct image_input input = {job->data, &worker->options->limits, job->cancelled, job->threads};
    CLEANUP_FREE uint8_t *rgb = malloc(image_pixels_bytes(spec));
    struct image_job_message message;

    message_of(worker, job, IMAGE_TO_PIXELS, &message);
    message.spec = *spec;
    if (rgb == NULL)
        return error_oom(err);
    if (!(worker->options->sandbox != NULL
              ? sandboxed_pixels(worker, job, &message, rgb, image_pixels_bytes(spec), &ret->stages,
                                 err)
              : image_to_pixels(worker->scratch, &input, spec, rgb, &ret->stages, err)))
        return false;
    double started = clock_monotonic_s();
    image_tensor_fill(rgb, spec, ret->values);
    ret->stages.transform += clock_monotonic_s() - started;
    return true;
}
