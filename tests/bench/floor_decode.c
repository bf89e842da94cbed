#include "floor_decode.h"

#include "program.h"

#include <math.h>
#include <string.h>

enum { ROW_PIXELS_MAX = 65536 };

static _Noreturn void fail(j_common_ptr jpeg)
{
    char text[JMSG_LENGTH_MAX];

    jpeg->err->format_message(jpeg, text);
    die("libjpeg: %s", text);
}

void floor_decoder_init(struct floor_decoder *d)
{
    memset(d, 0, sizeof(*d));
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->errors.error_exit = fail;
    jpeg_create_decompress(&d->jpeg);
    d->row = allocate(4 * ROW_PIXELS_MAX);
}

void floor_decoder_done(struct floor_decoder *d)
{
    jpeg_destroy_decompress(&d->jpeg);
    resample_done(&d->resample);
    free(d->row);
}

/* 8, 4, 2 or 1 eighths: the inverse DCTs that are vectorised. */
static unsigned choose_scale(const struct jpeg_decompress_struct *jpeg,
                             const struct floor_picture *out)
{
    double x = (double)jpeg->image_width / out->width, y = (double)jpeg->image_height / out->height;
    double spare = fmin(x, y) / FLOOR_RESERVE;

    return spare >= 8 ? 1 : spare >= 4 ? 2 : spare >= 2 ? 4 : 8;
}

/* The window in decoded pixels, and the resize from there. */
static void plan(struct floor_decoder *d, const struct floor_picture *out)
{
    double width = d->jpeg.output_width, height = d->jpeg.output_height;
    double factor = fmin(width / out->width, height / out->height);
    struct resample_plan p = {
        .src_width = (int)d->jpeg.output_width,
        .src_height = (int)d->jpeg.output_height,
        .width = factor * out->width,
        .height = factor * out->height,
        .out_width = out->width,
        .out_height = out->height,
        .out = out->rgb,
        .out_stride = (size_t)3 * (size_t)out->width,
    };
    struct error err;

    p.left = (width - p.width) / 2;
    p.top = (height - p.height) / 2;
    if (!resample_begin(&d->resample, &p, &err))
        die("%s", err.message);
}

/* Only these columns: from an iMCU's edge, so that `skip` pixels come before the first one. */
static void crop_columns(struct floor_decoder *d, size_t *skip)
{
    JDIMENSION x = (JDIMENSION)d->resample.first_col;
    JDIMENSION width = (JDIMENSION)(d->resample.last_col - d->resample.first_col);

    *skip = 0;
    if (width >= d->jpeg.output_width)
        return;
    jpeg_crop_scanline(&d->jpeg, &x, &width);
    *skip = (size_t)d->resample.first_col - x;
}

/* Read what nobody wants: entropy decoding only, but for the last rows of blocks. A skip to the
 * very end would leave the rest of the scan unread. */
static void read_rest(struct floor_decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    JDIMENSION blocks = (JDIMENSION)jpeg->max_v_samp_factor * (JDIMENSION)jpeg->min_DCT_scaled_size;
    JDIMENSION last = (jpeg->output_height - 1) / blocks * blocks;

    if (jpeg->output_scanline < last)
        jpeg_skip_scanlines(jpeg, last - jpeg->output_scanline);
    while (jpeg->output_scanline < jpeg->output_height)
        jpeg_read_scanlines(jpeg, &d->row, 1);
}

void floor_decode(struct floor_decoder *d, const uint8_t *data, size_t len,
                  const struct floor_picture *out)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    bool done = false;
    size_t skip;

    jpeg_mem_src(jpeg, data, len);
    jpeg_read_header(jpeg, TRUE);
    jpeg->scale_num = choose_scale(jpeg, out);
    jpeg->scale_denom = 8;
    jpeg->out_color_space = JCS_EXT_RGBX;
    jpeg_start_decompress(jpeg);
    if (jpeg->output_width > ROW_PIXELS_MAX)
        die("a picture too wide");
    plan(d, out);
    crop_columns(d, &skip);
    if (d->resample.first_row > 0)
        jpeg_skip_scanlines(jpeg, (JDIMENSION)d->resample.first_row);
    while (!done) {
        jpeg_read_scanlines(jpeg, &d->row, 1);
        done = resample_row(&d->resample, d->row + 4 * skip);
    }
    read_rest(d);
    jpeg_finish_decompress(jpeg);
}
