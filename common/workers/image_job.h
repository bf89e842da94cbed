/* The image work that runs in sandboxed processes (sandbox/sandbox.h), and the messages about it:
 * both sides are one program, so they are structs. What comes back is judged in image_slot.c. */
#ifndef DARKROOM_WORKERS_IMAGE_JOB_H
#define DARKROOM_WORKERS_IMAGE_JOB_H

#include "image/image.h"
#include "sandbox/sandbox.h"

struct image_request {
    enum { IMAGE_TRANSFORM, IMAGE_TO_PIXELS } what;
    struct image_limits limits;
    struct image_options options;  /* to transform */
    struct image_tensor_spec spec; /* of a tensor, whose pixels are the output */
};

struct image_answer {
    int width, height;
    struct image_stages stages;
};

/* How a process ends that has no memory left: the next one begins with all of it. */
enum { IMAGE_PROCESS_OUT_OF_MEMORY = 75 };

extern const struct sandbox_code image_process_code;

#endif
