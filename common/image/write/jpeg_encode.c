#include "image/write/jpeg_encode.h"

#include "image/read/jpeg_guard.h"

#include <stdlib.h>
#include <string.h>

enum {
    FIRST_BYTES = 64 * 1024,
    /* Of any JPEG of IMAGE_OUTPUT_PIXELS_MAX: a block of 64 coefficients of 11 bits takes at most
     * 64 x 27 bits with its codes, which is under 4 bytes a sample. */
    LAST_BYTES = 4 * 3 * IMAGE_OUTPUT_PIXELS_MAX,
    ROWS = 16,
};

struct jpeg_encoder {
    struct jpeg_guard guard;
    struct jpeg_compress_struct codec;
    struct jpeg_destination_mgr destination;
    /* of the call */
    const struct jpeg_encode *what;
    struct scratch_buffer *out;
    size_t len;
};

static struct jpeg_encoder *encoder_of(j_compress_ptr codec)
{
    return codec->client_data;
}

static void start_output(j_compress_ptr codec)
{
    struct jpeg_encoder *e = encoder_of(codec);

    e->destination.next_output_byte = e->out->data;
    e->destination.free_in_buffer = e->out->size;
}

/* libjpeg calls it when the whole buffer is full. */
static boolean grow_output(j_compress_ptr codec)
{
    struct jpeg_encoder *e = encoder_of(codec);
    size_t old = e->out->size;
    uint8_t *data = old < LAST_BYTES ? realloc(e->out->data, 2 * old) : NULL;

    if (data != NULL) {
        e->out->data = data;
        e->out->size = 2 * old;
        e->destination.next_output_byte = data + old;
        e->destination.free_in_buffer = old;
        return TRUE;
    }
    jpeg_guard_leave(&e->guard, JPEG_NO_MEMORY);
}

static void end_output(j_compress_ptr codec)
{
    struct jpeg_encoder *e = encoder_of(codec);

    e->len = e->out->size - e->destination.free_in_buffer;
}

static void create(void *arg)
{
    struct jpeg_encoder *e = arg;

    jpeg_create_compress(&e->codec);
}

struct jpeg_encoder *jpeg_encoder_new(struct error *err)
{
    struct jpeg_encoder *e = calloc(1, sizeof(*e));

    if (e == NULL) {
        error_oom(err);
        return NULL;
    }
    jpeg_guard_init(&e->guard, (j_common_ptr)&e->codec, NULL);
    if (!jpeg_guard_run(&e->guard, create, e)) {
        jpeg_guard_failed(&e->guard, err, ERROR_INTERNAL, "libjpeg does not start");
        jpeg_encoder_free(e);
        return NULL;
    }
    e->codec.client_data = e;
    e->codec.progress = &e->guard.progress;
    e->codec.dest = &e->destination;
    e->destination.init_destination = start_output;
    e->destination.empty_output_buffer = grow_output;
    e->destination.term_destination = end_output;
    return e;
}

void jpeg_encoder_free(struct jpeg_encoder *e)
{
    if (e != NULL)
        jpeg_destroy_compress(&e->codec);
    free(e);
}

static void write_rows(void *arg)
{
    struct jpeg_encoder *e = arg;
    const struct picture *p = e->what->picture;
    size_t line = 3 * (size_t)p->width;

    e->codec.image_width = (JDIMENSION)p->width;
    e->codec.image_height = (JDIMENSION)p->height;
    e->codec.input_components = 3;
    e->codec.in_color_space = JCS_RGB;
    jpeg_set_defaults(&e->codec);
    jpeg_set_quality(&e->codec, e->what->quality, TRUE);
    for (int i = 0; i < 3; i++)
        e->codec.comp_info[i].h_samp_factor = e->codec.comp_info[i].v_samp_factor = 1;
    /* optimize_coding would save 4 % of the bytes and triple the time */
    jpeg_start_compress(&e->codec, TRUE);
    while (e->codec.next_scanline < e->codec.image_height) {
        JSAMPROW rows[ROWS];
        JDIMENSION count = 0;

        for (JDIMENSION y = e->codec.next_scanline; count < ROWS && y < e->codec.image_height;
             y++) {
            const uint8_t *row = p->rgb + y * line;

            memcpy(&rows[count++], &row, sizeof(row)); /* libjpeg only reads them */
        }
        jpeg_write_scanlines(&e->codec, rows, count);
    }
    jpeg_finish_compress(&e->codec);
}

bool jpeg_encode(struct jpeg_encoder *e, const struct jpeg_encode *what, struct scratch_buffer *out,
                 size_t *len, struct error *err)
{
    if (!scratch_buffer_need(out, FIRST_BYTES, err))
        return false;
    e->guard.cancelled = what->cancelled;
    e->what = what;
    e->out = out;
    if (!jpeg_guard_run(&e->guard, write_rows, e)) {
        jpeg_abort_compress(&e->codec);
        return jpeg_guard_failed(&e->guard, err, ERROR_INTERNAL,
                                 "the result could not be written as jpeg");
    }
    *len = e->len;
    return true;
}
