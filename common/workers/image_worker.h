/* Image work for the threads of the worker pool: the calls of image/image.h, made in a sandbox
 * process of the thread's own, or, with SANDBOX=off, by the thread itself.
 *
 * Whatever an image does to its process costs that image's request alone: 422 when the process
 * crashes, makes a forbidden system call, or has no memory left; 503 at the deadline. Each loss is
 * counted (sandbox_losses_total) and logged with the request's id. Nothing that comes back is
 * trusted: every length is checked, and so is what the result says it is. */
#pragma once

#include "sandbox/sandbox.h"
#include "workers/image_job.h"

/* Of results: 16 megapixels that no format makes smaller. */
enum { IMAGE_RESULT_MAX = 64 * 1024 * 1024 };

struct image_tensor {
    float *values; /* image_pixels_bytes of them, the caller's */
    struct image_stages stages;
};

/* Shared by all workers, read-only once they exist. */
struct image_worker_options {
    struct sandbox *sandbox; /* NULL: SANDBOX=off */
    struct image_limits limits;
    size_t input_max, output_max; /* bytes */
};

struct image_worker;

/* One thread's; `options` must outlive it. Its process is started by image_worker_begin, or by the
 * first call. */
struct image_worker *image_worker_new(const struct image_worker_options *options,
                                      struct error *err) NODISCARD;
void image_worker_begin(struct image_worker *worker);
void image_worker_free(struct image_worker *worker); /* on its thread; NULL is fine */

/* image_transform, with remove_background in its two steps, and image_to_pixels with
 * image_tensor_fill, with their errors, those of the mask's finder, and ERROR_UNAVAILABLE: there is
 * no process and none can be started, or the one that had the picture was lost. */
bool image_worker_transform(struct image_worker *worker, const struct image_job *job,
                            struct image_result *ret, struct error *err) NODISCARD;
bool image_worker_to_tensor(struct image_worker *worker, const struct image_job *job,
                            const struct image_tensor_spec *spec, struct image_tensor *ret,
                            struct error *err) NODISCARD;
