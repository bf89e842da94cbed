/* What a worker thread keeps from image to image, and what the stages hand on. Belongs to one
 * thread. */
#ifndef DARKROOM_IMAGE_WORKER_H
#define DARKROOM_IMAGE_WORKER_H

#include "image/image.h"
#include "image/resample.h"

/* Memory that is used again: its content is nobody's after the next scratch_need. All zero: empty.
 */
struct scratch {
    uint8_t *data;
    size_t size;
};

/* At least `size` bytes; what was there is lost. ERROR_OVERLOADED without memory. */
bool scratch_need(struct scratch *s, size_t size, struct error *err) NODISCARD;
void scratch_done(struct scratch *s);

/* The transform for one embedded profile; see colours.c. */
struct colours {
    void *context, *transform; /* lcms's */
    struct scratch profile;
    size_t profile_len;
    int bands;
};
void colours_done(struct colours *c);

struct jpeg_encoder;

struct image_worker {
    struct resample resample;
    struct scratch rows;    /* as the decoder gives them */
    struct scratch resized; /* RGB, as the file is turned */
    struct scratch canvas;  /* RGB, upright and padded */
    struct scratch profile; /* put together from the file's pieces */
    struct scratch encoded;
    struct colours colours;
    struct jpeg_encoder *encoder;
    bool only_libvips; /* for tests, which compare the two ways */
};

/* Give back what an unusually large image needed. After each. */
void image_worker_trim(struct image_worker *worker);

#endif
