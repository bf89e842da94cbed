#include "image/private.h"
#include "image/read/jpeg.h"

/* What an image far larger than usual needed is given back after it: 256 x 256 results and 2000
 * pixels wide rows stay well below. */
enum { KEEP_BYTES = 1 << 20 };

bool scratch_need(struct scratch *s, size_t size, struct error *err)
{
    if (s->size >= size)
        return true;
    scratch_done(s);
    s->data = malloc(size);
    if (s->data == NULL)
        return error_oom(err);
    s->size = size;
    return true;
}

void scratch_done(struct scratch *s)
{
    free(s->data);
    *s = (struct scratch){0};
}

static void trim(struct scratch *s)
{
    if (s->size > KEEP_BYTES)
        scratch_done(s);
}

void image_worker_trim(struct image_worker *w)
{
    trim(&w->rows);
    trim(&w->resized);
    trim(&w->canvas);
    trim(&w->profile);
    trim(&w->encoded);
    resample_trim(&w->resample, KEEP_BYTES);
    colours_trim(&w->colours, KEEP_BYTES);
}

struct image_worker *image_worker_new(struct error *err)
{
    struct image_worker *w = calloc(1, sizeof(*w));

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

void image_worker_free(struct image_worker *w)
{
    image_thread_done();
    if (w == NULL)
        return;
    jpeg_encoder_free(w->encoder);
    colours_done(&w->colours);
    scratch_done(&w->rows);
    scratch_done(&w->resized);
    scratch_done(&w->canvas);
    scratch_done(&w->profile);
    scratch_done(&w->encoded);
    resample_done(&w->resample);
    free(w);
}
