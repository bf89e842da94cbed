#include "floor.h"
#include "floor_decode.h"
#include "image/image.h"
#include "program.h"

#include <string.h>

enum {
    SIDE = 256,
    TENSOR_SIDE = 224,
    MARGIN = (SIDE - TENSOR_SIDE) / 2,
    JPEG_ROOM = 4 * SIDE * SIDE
};

struct inputs {
    bool tensor;
    struct input {
        uint8_t *data;
        size_t len;
    } like, *files;
    size_t count;
};

struct codec {
    const struct inputs *inputs;
    struct floor_decoder decoder;
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct floor_picture picture;
    uint8_t *crop; /* of the picture, TENSOR_SIDE a side */
    float *tensor;
    uint8_t *out;
};

static bool same_table(const JHUFF_TBL *a, const JHUFF_TBL *b)
{
    return memcmp(a->bits, b->bits, sizeof(a->bits)) == 0;
}

/* Take over how `like` is encoded. */
static void imitate(struct codec *c, const struct input *like)
{
    struct jpeg_decompress_struct *model = &c->decoder.jpeg;

    jpeg_mem_src(model, like->data, like->len);
    jpeg_read_header(model, TRUE);
    jpeg_copy_critical_parameters(model, &c->jpeg);
    c->jpeg.image_width = c->jpeg.image_height = SIDE;
    c->jpeg.in_color_space = JCS_RGB;
    c->jpeg.input_components = 3;
    /* tables of its own are optimised ones */
    c->jpeg.optimize_coding =
        !same_table(model->ac_huff_tbl_ptrs[0], c->jpeg.ac_huff_tbl_ptrs[0]) ? TRUE : FALSE;
    jpeg_abort_decompress(model);
}

static void *begin(const void *ctx, int index)
{
    const struct inputs *in = ctx;
    struct codec *c = allocate(sizeof(*c));

    (void)index;
    memset(c, 0, sizeof(*c));
    c->inputs = in;
    floor_decoder_init(&c->decoder);
    c->picture = (struct floor_picture){SIDE, SIDE, allocate((size_t)3 * SIDE * SIDE)};
    c->crop = allocate((size_t)3 * TENSOR_SIDE * TENSOR_SIDE);
    c->tensor = allocate((size_t)3 * TENSOR_SIDE * TENSOR_SIDE * sizeof(float));
    c->out = allocate(JPEG_ROOM);
    c->jpeg.err = jpeg_std_error(&c->errors);
    c->errors.error_exit = c->decoder.errors.error_exit;
    jpeg_create_compress(&c->jpeg);
    if (!in->tensor)
        imitate(c, &in->like);
    return c;
}

static void encode(struct codec *c)
{
    unsigned char *out = c->out;
    unsigned long len = JPEG_ROOM;

    jpeg_mem_dest(&c->jpeg, &out, &len);
    jpeg_start_compress(&c->jpeg, TRUE);
    while (c->jpeg.next_scanline < SIDE) {
        JSAMPROW row = c->picture.rgb + (size_t)3 * SIDE * c->jpeg.next_scanline;

        jpeg_write_scanlines(&c->jpeg, &row, 1);
    }
    jpeg_finish_compress(&c->jpeg);
    if (out != c->out)
        die("a JPEG of %lu bytes", len);
}

/* The centre of the picture, as (rgb - 127.5) / 127.5, by the service's own loop. */
static void convert(struct codec *c)
{
    static const struct image_tensor_spec spec = {.width = TENSOR_SIDE,
                                                  .height = TENSOR_SIDE,
                                                  .nchw = true,
                                                  .mean = {127.5f, 127.5f, 127.5f},
                                                  .std = {127.5f, 127.5f, 127.5f}};

    for (size_t y = 0; y < TENSOR_SIDE; y++)
        memcpy(c->crop + 3 * TENSOR_SIDE * y, c->picture.rgb + 3 * ((y + MARGIN) * SIDE + MARGIN),
               3 * TENSOR_SIDE);
    image_tensor_fill(c->crop, &spec, c->tensor);
}

static void step(void *state, size_t i)
{
    struct codec *c = state;
    const struct input *file = &c->inputs->files[i % c->inputs->count];

    floor_decode(&c->decoder, file->data, file->len, &c->picture);
    if (c->inputs->tensor)
        convert(c);
    else
        encode(c);
}

static void end(void *state)
{
    struct codec *c = state;

    jpeg_destroy_compress(&c->jpeg);
    floor_decoder_done(&c->decoder);
    free(c->picture.rgb);
    free(c->crop);
    free(c->tensor);
    free(c->out);
    free(c);
}

static struct input read_input(const char *path)
{
    struct input input = {0};

    input.data = file_read(path, &input.len);
    if (input.data == NULL)
        exit(2);
    return input;
}

struct floor_step floor_codec_step(bool tensor, const char *like, char *const *paths, size_t count)
{
    static struct inputs in;

    in.tensor = tensor;
    if (!tensor)
        in.like = read_input(like);
    in.count = count;
    in.files = allocate(count * sizeof(*in.files));
    for (size_t i = 0; i < count; i++)
        in.files[i] = read_input(paths[i]);
    return (struct floor_step){begin, step, end, &in};
}
