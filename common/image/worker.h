/* What a worker thread keeps from image to image, and what the stages hand on. Belongs to one
 * thread. */
#ifndef DARKROOM_IMAGE_WORKER_H
#define DARKROOM_IMAGE_WORKER_H

#include "image/image.h"
#include "image/resample/resample.h"

/* Memory that is used again: its content is nobody's after the next scratch_need. All zero: empty.
 */
struct scratch {
    uint8_t *data;
    size_t size;
};

/* At least `size` bytes; what was there is lost. ERROR_OVERLOADED without memory. */
bool scratch_need(struct scratch *s, size_t size, struct error *err) NODISCARD;
void scratch_done(struct scratch *s);

/* The transforms for the last few embedded profiles; see colours.c. */
enum { COLOURS_KEPT = 4 };
struct colours {
    void *context; /* lcms's */
    struct colour_profile {
        struct scratch data;
        size_t len;
        int bands;       /* of the file: 1 or 3; 0: nothing is kept here */
        void *transform; /* lcms's; NULL: the profile does not work */
    } kept[COLOURS_KEPT];
    size_t next; /* the one to be given up */
};
void colours_done(struct colours *c);
/* Give back the profiles larger than that. */
void colours_trim(struct colours *c, size_t keep_bytes);

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
