#include "workers/image_worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "workers/image_job.h"

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

struct image_slot {
    const struct image_slots *slots;
    struct image_worker *worker;    /* SANDBOX=off */
    struct sandbox_worker *process; /* NULL: to be started */
    int calls;                      /* of the process */
};

struct image_slot *image_slot_new(const struct image_slots *slots, struct error *err)
{
    struct image_slot *slot = calloc(1, sizeof(*slot));

    if (slot == NULL) {
        error_oom(err);
        return NULL;
    }
    slot->slots = slots;
    if (slots->sandbox != NULL || (slot->worker = image_worker_new(err)) != NULL)
        return slot;
    image_slot_free(slot);
    return NULL;
}

static void end_process(struct image_slot *slot)
{
    sandbox_worker_free(slot->process);
    slot->process = NULL;
    slot->calls = 0;
}

void image_slot_free(struct image_slot *slot)
{
    if (slot == NULL)
        return;
    end_process(slot);
    image_worker_free(slot->worker);
    free(slot);
}

static size_t memory_max(const struct image_slots *slots)
{
    return DECODE_FACTOR * (size_t)slots->limits.max_decode_bytes + OWN_BYTES +
           CPU_BYTES * (size_t)get_nprocs_conf();
}

static bool need_process(struct image_slot *slot, struct error *err)
{
    const struct image_slots *slots = slot->slots;

    if (slot->calls >= CALLS_MAX)
        end_process(slot);
    if (slot->process == NULL)
        slot->process = sandbox_worker_new(slots->sandbox,
                                           &(struct sandbox_limits){
                                               .input_max = slots->input_max,
                                               .output_max = slots->output_max,
                                               .memory_max = memory_max(slots),
                                           },
                                           err);
    return slot->process != NULL;
}

void image_slot_begin(struct image_slot *slot)
{
    struct error ignored; /* the first call tries again and tells */

    if (slot->slots->sandbox != NULL)
        (void)!need_process(slot, &ignored);
}

static void report(const struct sandbox_loss *loss, const char *request_id)
{
    bool exited = loss->reason == SANDBOX_EXITED;
    const char *reason = exited && loss->detail == IMAGE_PROCESS_OUT_OF_MEMORY
                             ? "memory"
                             : sandbox_loss_name(loss->reason);
    char labels[METRIC_LABELS_MAX];

    if (loss->reason == SANDBOX_KEPT)
        return;
    snprintf(labels, sizeof(labels), "reason=\"%s\"", reason);
    metric_add(METRIC_SANDBOX_LOSSES, labels, 1);
    log_warning("sandboxed worker lost", F("request_id", request_id), F("reason", reason),
                F(exited ? "status" : "signal", loss->detail));
}

/* Somebody killed the process, or the kernel did for want of memory: its image need not have been
 * the reason, and gets a second one. */
static bool is_worth_another(const struct sandbox_loss *loss, const struct error *err)
{
    return loss->reason == SANDBOX_KILLED && err->code == ERROR_BAD_IMAGE;
}

static bool call(struct image_slot *slot, const struct image_work *work,
                 const struct image_request *request, struct sandbox_reply *reply,
                 struct error *err)
{
    const struct sandbox_job job = {
        .request = bytes_of(request, sizeof(*request)),
        .input = work->data,
        .deadline_ms = work->deadline_ms,
        .cancelled = work->cancelled,
    };
    struct error why = {0};

    for (int i = 0; i < ATTEMPTS; i++) {
        if (!need_process(slot, err))
            return false;
        slot->calls++;
        bool ok = sandbox_call(slot->process, &job, reply, &why);
        report(&reply->loss, work->request_id);
        if (ok)
            return true;
        if (!is_worth_another(&reply->loss, &why))
            break;
    }
    *err = why;
    return false;
}

/* What the process says is impossible. */
static bool distrust(struct image_slot *slot, const struct image_work *work, struct error *err)
{
    end_process(slot);
    report(&(struct sandbox_loss){.reason = SANDBOX_NONSENSE}, work->request_id);
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

static void free_data(void *data)
{
    free(data);
}

static bool sandboxed_transform(struct image_slot *slot, const struct image_work *work,
                                const struct image_options *options, struct image_result *ret,
                                struct error *err)
{
    struct sandbox_reply reply = {.output = BUFFER_MAX(slot->slots->output_max)};
    struct image_answer answer;
    struct image_request request;
    double started = clock_monotonic_s();

    memset(&request, 0, sizeof(request)); /* padding, too */
    request.what = IMAGE_TRANSFORM;
    request.limits = slot->slots->limits;
    request.options = *options;
    if (!call(slot, work, &request, &reply, err)) {
        buffer_done(&reply.output);
        return false;
    }
    if (!take_answer(&reply, clock_monotonic_s() - started, &answer) ||
        !is_size(answer.width, answer.height) ||
        image_sniff(buffer_view(&reply.output)) != options->format) {
        buffer_done(&reply.output);
        return distrust(slot, work, err);
    }
    *ret = (struct image_result){
        .data = reply.output.data,
        .len = reply.output.len,
        .release = free_data,
        .width = answer.width,
        .height = answer.height,
        .stages = answer.stages,
    };
    return true;
}

/* *rgb: image_pixels_bytes, which is as large as it has to be and so never grows. */
static bool sandboxed_to_pixels(struct image_slot *slot, const struct image_work *work,
                                const struct image_tensor_spec *spec, uint8_t *rgb,
                                struct image_stages *ret, struct error *err)
{
    const size_t size = image_pixels_bytes(spec);
    struct sandbox_reply reply = {.output = {.data = rgb, .cap = size, .max = size}};
    struct image_answer answer;
    struct image_request request;
    double started = clock_monotonic_s();

    memset(&request, 0, sizeof(request));
    request.what = IMAGE_TO_PIXELS;
    request.limits = slot->slots->limits;
    request.spec = *spec;
    if (!call(slot, work, &request, &reply, err))
        return false;
    if (!take_answer(&reply, clock_monotonic_s() - started, &answer) || reply.output.len != size)
        return distrust(slot, work, err);
    *ret = answer.stages;
    return true;
}

bool image_slot_transform(struct image_slot *slot, const struct image_work *work,
                          const struct image_options *options, struct image_result *ret,
                          struct error *err)
{
    struct image_input input = {work->data, &slot->slots->limits, work->cancelled};

    return slot->slots->sandbox != NULL ? sandboxed_transform(slot, work, options, ret, err)
                                        : image_transform(slot->worker, &input, options, ret, err);
}

bool image_slot_to_tensor(struct image_slot *slot, const struct image_work *work,
                          const struct image_tensor_spec *spec, struct image_tensor *ret,
                          struct error *err)
{
    struct image_input input = {work->data, &slot->slots->limits, work->cancelled};
    CLEANUP_FREE uint8_t *rgb = malloc(image_pixels_bytes(spec));

    if (rgb == NULL)
        return error_oom(err);
    if (!(slot->slots->sandbox != NULL
              ? sandboxed_to_pixels(slot, work, spec, rgb, &ret->stages, err)
              : image_to_pixels(slot->worker, &input, spec, rgb, &ret->stages, err)))
        return false;
    double started = clock_monotonic_s();
    image_tensor_fill(rgb, spec, ret->values);
    ret->stages.transform += clock_monotonic_s() - started;
    return true;
}
