#include "image/read/jpeg_decode.h"

#include "base/clock.h"

#include <string.h>

enum {
    /* Decoded at a time: few, so that the resize finds them in the L1 cache, and enough that the
     * clock, which is read twice, costs nothing. */
    ROWS_MIN = 2,
    ROWS_MAX = 16,
    ROWS_BYTES = 16384,
    SKIP_IMCUS = 64,  /* skipped at a time, between two looks at `cancelled` */
    EDGE_COLUMNS = 4, /* beside what is wanted: smooth upsampling looks one sample beyond */
    PIXEL = 4,
    /* libjpeg-turbo writes rows that are aligned to its vectors (16 or 32 bytes) past the caches,
     * and the resize would wait for memory: so all of them begin a pixel beyond */
    ROW_ALIGN = 32,
};

static bool failed(const struct jpeg_decoder *d, struct error *err)
{
    return jpeg_guard_failed(&d->guard, err, ERROR_BAD_IMAGE,
                             "the image cannot be decoded to its end");
}

static void open_step(void *arg)
{
    struct jpeg_decoder *d = arg;

    jpeg_create_decompress(&d->codec);
    d->codec.progress = &d->guard.progress;
    jpeg_mem_src(&d->codec, d->data.data, d->data.len);
    jpeg_read_header(&d->codec, TRUE);
}

bool jpeg_decoder_open(struct jpeg_decoder *d, const struct image_input *input,
                       const struct image_header *header, struct error *err)
{
    memset(&d->codec, 0, sizeof(d->codec));
    d->data = input->data;
    d->suspect = header->ones;
    d->resample_s = 0;
    jpeg_guard_init(&d->guard, (j_common_ptr)&d->codec, input->cancelled);
    if (!jpeg_guard_run(&d->guard, open_step, d))
        return failed(d, err);
    return ((int)d->codec.image_width == header->width &&
            (int)d->codec.image_height == header->height &&
            d->codec.num_components == header->bands) ||
           error_set(err, ERROR_BAD_IMAGE, "the image contradicts its own header");
}

void jpeg_decoder_done(struct jpeg_decoder *d)
{
    jpeg_destroy_decompress(&d->codec);
}

/* --- a second look --- */

/* libjpeg-turbo's fast Huffman decoder, used wherever much data lies ahead, takes a code that does
 * not exist for a zero without a word. What follows then hardly ever ends where the scan does, and
 * all ones is in no table: so when bytes are left over, or the header has seen many ones, all is
 * read once more with so little ahead that the careful decoder does it. Neither alone is an error:
 * some cameras pad. */
enum { CAREFUL_BYTES = 256 };

static void source_nothing(j_decompress_ptr codec)
{
    (void)codec;
}

static boolean source_next(j_decompress_ptr codec)
{
    static const uint8_t end[] = {0xff, JPEG_EOI};
    struct jpeg_decoder *d = codec->client_data;
    size_t left = d->data.len - d->handed, count = left < CAREFUL_BYTES ? left : CAREFUL_BYTES;

    d->source.next_input_byte = count > 0 ? d->data.data + d->handed : end;
    d->source.bytes_in_buffer = count > 0 ? count : sizeof(end);
    d->handed += count;
    return TRUE;
}

static void source_skip(j_decompress_ptr codec, long count)
{
    struct jpeg_source_mgr *s = codec->src;

    for (; count > (long)s->bytes_in_buffer; source_next(codec))
        count -= (long)s->bytes_in_buffer;
    if (count > 0) {
        s->next_input_byte += count;
        s->bytes_in_buffer -= (size_t)count;
    }
}

static void careful_step(void *arg)
{
    struct jpeg_decoder *d = arg;
    struct jpeg_decompress_struct *codec = &d->codec;
    JSAMPARRAY row;

    jpeg_create_decompress(codec);
    codec->client_data = d;
    codec->progress = &d->guard.progress;
    d->source.init_source = source_nothing;
    d->source.fill_input_buffer = source_next;
    d->source.skip_input_data = source_skip;
    d->source.resync_to_restart = jpeg_resync_to_restart;
    d->source.term_source = source_nothing;
    codec->src = &d->source;
    jpeg_read_header(codec, TRUE);
    codec->scale_denom = 8; /* only the codes matter */
    jpeg_start_decompress(codec);
    row = codec->mem->alloc_sarray((j_common_ptr)codec, JPOOL_IMAGE,
                                   codec->output_width * (JDIMENSION)codec->output_components, 1);
    while (codec->output_scanline < codec->output_height)
        jpeg_read_scanlines(codec, row, 1);
}

static bool check_codes(struct jpeg_decoder *d, struct error *err)
{
    struct jpeg_decoder *careful = calloc(1, sizeof(*careful));
    bool ok;

    if (careful == NULL)
        return error_oom(err);
    jpeg_abort_decompress(&d->codec); /* its coefficients would be there twice */
    careful->data = d->data;
    jpeg_guard_init(&careful->guard, (j_common_ptr)&careful->codec, d->guard.cancelled);
    ok = jpeg_guard_run(&careful->guard, careful_step, careful) || failed(careful, err);
    jpeg_decoder_done(careful);
    free(careful);
    return ok;
}

/* Of several scans, each may be whole and others missing: a component without any, or a part of its
 * coefficients or of their bits. */
static bool is_complete(const struct jpeg_decoder *d)
{
    const struct jpeg_decompress_struct *codec = &d->codec;

    for (int c = 0; c < codec->num_components; c++) {
        if (codec->comp_info[c].quant_table == NULL) /* which its first scan sets */
            return false;
        for (int k = 0; codec->coef_bits != NULL && k < DCTSIZE2; k++) {
            if (codec->coef_bits[c][k] != 0)
                return false;
        }
    }
    return true;
}

static void finish_step(void *arg)
{
    struct jpeg_decoder *d = arg;

    jpeg_finish_decompress(&d->codec);
}

/* To be called when all rows are read. */
static bool check_whole(struct jpeg_decoder *d, struct error *err)
{
    bool complete = is_complete(d), progressive = d->codec.progressive_mode;

    /* what libjpeg says of bytes behind the last scan is none of the picture's */
    if (!jpeg_guard_run(&d->guard, finish_step, d) && d->guard.state == JPEG_CANCELLED)
        return failed(d, err);
    if (!complete || d->guard.garbage)
        return failed(d, err);
    return (d->guard.leftovers == 0 && !d->suspect) || progressive || check_codes(d, err);
}

/* --- rows --- */

static void start_step(void *arg)
{
    struct jpeg_decoder *d = arg;

    /* of several scans this reads all, to the end of the file */
    jpeg_start_decompress(&d->codec);
}

/* Spare the columns that nobody wants. Returns the first column of what is decoded. */
static JDIMENSION crop_columns(struct jpeg_decoder *d)
{
    const struct resample *r = d->resample;
    int first = r->first_col - EDGE_COLUMNS, last = r->last_col + EDGE_COLUMNS;
    int width = (int)d->codec.output_width;
    JDIMENSION left = first > 0 ? (JDIMENSION)first : 0;
    JDIMENSION count = (JDIMENSION)(last < width ? last : width) - left;

    if (count == d->codec.output_width)
        return 0;
    jpeg_crop_scanline(&d->codec, &left, &count);
    return left;
}

/* Go on to a row that begins an iMCU row. */
static void skip_to(struct jpeg_decoder *d, JDIMENSION row, JDIMENSION imcu)
{
    while (d->codec.output_scanline < row) {
        JDIMENSION count = row - d->codec.output_scanline;

        d->guard.progress.progress_monitor((j_common_ptr)&d->codec);
        jpeg_skip_scanlines(&d->codec, count < SKIP_IMCUS * imcu ? count : SKIP_IMCUS * imcu);
    }
}

static size_t row_bytes(const struct jpeg_decoder *d)
{
    size_t len = (size_t)d->codec.output_width * PIXEL;

    return (len + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
}

static uint8_t *row_at(const struct jpeg_decoder *d, size_t i)
{
    size_t aligned = ROW_ALIGN - (uintptr_t)d->rows->data % ROW_ALIGN;

    return d->rows->data + aligned + PIXEL + i * row_bytes(d);
}

static JDIMENSION rows_max(const struct jpeg_decoder *d)
{
    size_t count = ROWS_BYTES / row_bytes(d);

    return (JDIMENSION)(count < ROWS_MIN ? ROWS_MIN : count > ROWS_MAX ? ROWS_MAX : count);
}

/* Up to rows_max of those before `end`; their number. */
static JDIMENSION read_rows(struct jpeg_decoder *d, JDIMENSION end)
{
    JSAMPROW rows[ROWS_MAX];
    JDIMENSION left = end - d->codec.output_scanline, count = 0;

    left = left < rows_max(d) ? left : rows_max(d);
    for (size_t i = 0; i < left; i++)
        rows[i] = row_at(d, i);
    while (count < left) /* libjpeg has one or two at a time */
        count += jpeg_read_scanlines(&d->codec, rows + count, left - count);
    return count;
}

/* Feed what the resampler wants. */
static void feed_rows(struct jpeg_decoder *d, JDIMENSION left)
{
    JDIMENSION first = (JDIMENSION)d->resample->first_row;
    JDIMENSION last = (JDIMENSION)d->resample->last_row;
    size_t column = ((size_t)d->resample->first_col - (size_t)left) * PIXEL;

    while (d->codec.output_scanline < last) {
        JDIMENSION top = d->codec.output_scanline, count = read_rows(d, last);
        double start = clock_monotonic_s();

        for (JDIMENSION i = 0; i < count; i++) {
            if (top + i >= first)
                resample_row(d->resample, row_at(d, i) + column);
        }
        d->resample_s += clock_monotonic_s() - start;
    }
}

/* Rows that nobody wants are skipped, which leaves out the inverse DCT and the colours; their
 * codes are read all the same. But the decoder does not look at rows that are skipped up to the
 * very end, so the last ones are read. Skips begin and end between iMCU rows, where nothing is
 * half done. */
static void rows_step(void *arg)
{
    struct jpeg_decoder *d = arg;
    struct jpeg_decompress_struct *codec = &d->codec;
    JDIMENSION imcu = (JDIMENSION)codec->max_v_samp_factor * 8 / codec->scale_denom;
    JDIMENSION left = crop_columns(d);
    bool all_read = jpeg_has_multiple_scans(codec);

    if (!all_read)
        skip_to(d, (JDIMENSION)d->resample->first_row / imcu * imcu, imcu);
    feed_rows(d, left);
    while (!all_read && codec->output_scanline < codec->output_height) {
        JDIMENSION tail = (codec->output_height - 1) / imcu * imcu;

        if (codec->output_scanline % imcu == 0)
            skip_to(d, tail, imcu);
        JDIMENSION next = (codec->output_scanline / imcu + 1) * imcu;
        read_rows(d, next < codec->output_height ? next : codec->output_height);
    }
}

bool jpeg_decoder_read(struct jpeg_decoder *d, int denominator, struct resample *resample,
                       struct scratch_buffer *rows, struct error *err)
{
    d->resample = resample;
    d->rows = rows;
    d->codec.scale_num = 1;
    d->codec.scale_denom = (unsigned)denominator;
    d->codec.out_color_space = JCS_EXT_RGBX;
    if (!jpeg_guard_run(&d->guard, start_step, d))
        return failed(d, err);
    /* of the whole width; a crop makes rows shorter, and more of them */
    size_t room = ROWS_MIN * row_bytes(d);
    return scratch_buffer_need(rows, ROW_ALIGN + PIXEL + (room > ROWS_BYTES ? room : ROWS_BYTES),
                               err) &&
           (jpeg_guard_run(&d->guard, rows_step, d) || failed(d, err)) && check_whole(d, err);
}

static void whole_step(void *arg)
{
    struct jpeg_decoder *d = arg;
    size_t line = (size_t)d->codec.output_width * (size_t)d->codec.output_components;

    while (d->codec.output_scanline < d->codec.output_height) {
        JSAMPROW row = d->pixels + d->codec.output_scanline * line;

        jpeg_read_scanlines(&d->codec, &row, 1);
    }
}

bool jpeg_decoder_read_whole(struct jpeg_decoder *d, int denominator, uint8_t *pixels,
                             struct error *err)
{
    d->pixels = pixels;
    d->codec.scale_num = 1;
    d->codec.scale_denom = (unsigned)denominator;
    if (!jpeg_guard_run(&d->guard, start_step, d) || !jpeg_guard_run(&d->guard, whole_step, d))
        return failed(d, err);
    return check_whole(d, err);
}
