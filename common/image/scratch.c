#include "image/scratch.h"

#include "image/write/jpeg_encode.h"

/* What an image far larger than usual needed is given back after it: 256 x 256 results and 2000
 * pixels wide rows stay well below. */
enum { KEEP_BYTES = 1 << 20 };

void image_scratch_trim(struct image_scratch *w)
{
    w->cut = (struct cut_out){0};
    scratch_buffer_trim(&w->rows, KEEP_BYTES);
    scratch_buffer_trim(&w->resized, KEEP_BYTES);
    scratch_buffer_trim(&w->canvas, KEEP_BYTES);
    scratch_buffer_trim(&w->full[0], KEEP_BYTES);
    scratch_buffer_trim(&w->full[1], KEEP_BYTES);
    scratch_buffer_trim(&w->work, KEEP_BYTES);
    scratch_buffer_trim(&w->profile, KEEP_BYTES);
    scratch_buffer_trim(&w->file, KEEP_BYTES);
    resample_trim(&w->resample, KEEP_BYTES);
    colours_trim(&w->colours, KEEP_BYTES);
}

struct image_scratch *image_scratch_new(struct error *err)
{
    struct image_scratch *w = calloc(1, sizeof(*w));

    if (w == NULL) {
        error_oom(err);
        return NULL;
    }
    w->encoder = jpeg_encoder_new(err);
    if (w->encoder == NULL) {
        free(w);
        return NULL;
    }
    return w;
}

void image_scratch_free(struct image_scratch *w)
{
    image_thread_done();
    if (w == NULL)
        return;
    jpeg_encoder_free(w->encoder);
    colours_done(&w->colours);
    scratch_buffer_done(&w->rows);
    scratch_buffer_done(&w->resized);
    scratch_buffer_done(&w->canvas);
    scratch_buffer_done(&w->full[0]);
    scratch_buffer_done(&w->full[1]);
    scratch_buffer_done(&w->work);
    scratch_buffer_done(&w->profile);
    scratch_buffer_done(&w->file);
    resample_done(&w->resample);
    free(w);
}
