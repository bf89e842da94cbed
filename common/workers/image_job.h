/* A job on one picture, and the code that does it in a sandbox process (sandbox/sandbox.h).
 *
 * The messages between the two sides are structs, since both are one program. image_worker.c checks
 * what comes back. */
#pragma once

#include "image/image.h"
#include "sandbox/sandbox_code.h"

/* With remove_background: finds the mask, on the worker's thread, outside the sandbox. `rgb` is the
 * picture stretched to `size`; `alpha` is one byte a pixel, 0 for background. */
struct mask_finder {
    struct image_size size;
    bool (*find)(void *context, const uint8_t *rgb, uint8_t *alpha, struct error *err);
    void *context;
};

struct image_job {
    struct bytes data;
    const struct image_options *options;   /* to transform */
    const struct mask_finder *mask_finder; /* for remove_background */
    int threads;                           /* as in struct image_input */
    int64_t deadline_ms;
    const atomic_bool *cancelled;
    const char *request_id; /* for the log */
};

/* --- into the process and back --- */

struct image_job_message {
    /* the last two: with remove_background, one after the other */
    enum image_job_kind {
        IMAGE_TRANSFORM,
        IMAGE_TO_PIXELS,
        IMAGE_CUT_BEGIN,
        IMAGE_CUT_FINISH,
    } what;
    struct image_limits limits;
    int threads;
    struct image_options options;  /* to transform */
    struct image_tensor_spec spec; /* of a tensor, whose pixels are the output */
    struct image_size mask;        /* of what the mask is found in, and of the mask: the input */
};

struct image_answer {
    int width, height;
    struct image_stages stages;
};

/* The exit status of a process that has no memory left: the next one begins with all of it. */
enum { IMAGE_JOB_OUT_OF_MEMORY = 75 };

extern const struct sandbox_code image_job_code;
