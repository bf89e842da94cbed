/* What a thread keeps from image to image, and what the stages hand on: see image.h. */
#pragma once

#include "image/private.h"
#include "image/read/colours.h"
#include "image/resample/resample.h"

struct jpeg_encoder;

struct image_scratch {
    struct resample resample;
    struct scratch_buffer rows;     /* as the decoder gives them */
    struct scratch_buffer resized;  /* RGB, as the file is turned */
    struct scratch_buffer canvas;   /* RGB, upright and padded */
    struct scratch_buffer full[2];  /* RGB at full size: what operations read and write */
    struct scratch_buffer work;     /* of an operation */
    struct cut_out {                /* between image_cut_begin and image_cut_finish */
        struct picture picture;     /* in full[0]; none: rgb is NULL */
        struct image_size original; /* what the options are about: the picture may be smaller */
    } cut;
    struct scratch_buffer profile; /* put together from the file's pieces */
    struct scratch_buffer file;    /* mended */
    struct colours colours;
    struct jpeg_encoder *encoder;
    bool only_libvips; /* for tests, which compare the two ways */
};

/* Give back what an unusually large image needed. After each. */
void image_scratch_trim(struct image_scratch *scratch);
