/* rotate: any whole number of degrees, clockwise. Multiples of 90 move pixels and change none.
 *
 * They are moved in square blocks, whose rows of the one picture and of the other all stay in the
 * L1 cache. */
#include "base/strings.h"
#include "image/ops/geometry.h"
#include "image/ops/operations.h"

#include <math.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* ---- by quarters ---- */

enum { BLOCK = 64 };

/* Pixel (x, y) of what comes out is at corner + x * across + y * down of what goes in. */
static struct turned view_of(const struct operation_run *run)
{
    const ptrdiff_t pixel = run->bands, row = (ptrdiff_t)operation_row_bytes(run);
    const uint8_t *right = run->in + (run->size.width - 1) * pixel;
    const ptrdiff_t bottom = (run->size.height - 1) * row;

    switch (run->value) {
    case 90:
        return (struct turned){run->in + bottom, -row, pixel};
    case 180:
        return (struct turned){right + bottom, -pixel, -row};
    default:
        return (struct turned){right, row, -pixel};
    }
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Of what comes out. */
struct block {
    int left, top, right, bottom;
};

static inline __attribute__((always_inline)) void copy_pixels(const struct operation_run *run,
                                                              const struct turned *view,
                                                              struct block b, size_t bands)
{
    for (int y = b.top; y < b.bottom; y++) {
        const uint8_t *from = view->corner + b.left * view->across + y * view->down;
        uint8_t *to = run->out + ((size_t)y * (size_t)run->out_size.width + (size_t)b.left) * bands;

        for (int x = b.left; x < b.right; x++, from += view->across, to += bands)
            memcpy(to, from, bands);
    }
}

static void copy_block(const struct operation_run *run, const struct turned *view, struct block b)
{
    switch (run->bands) { /* a copy of a known size is one move */
    case 1:
        copy_pixels(run, view, b, 1);
        break;
    case 2:
        copy_pixels(run, view, b, 2);
        break;
    case 3:
        copy_pixels(run, view, b, 3);
        break;
    default:
        copy_pixels(run, view, b, 4);
    }
}

#ifdef __x86_64__
enum { SQUARE = 4, RGB = 3 };

/* Four pixels of a row of `in` become a column: 4 x 4 pixels of RGB are spread to 4 bytes each,
 * exchanged as 32 bit numbers, and packed. 16 bytes are read and written where 12 are meant. */
struct square {
    const uint8_t *from; /* the pixels of the first column: at the lowest address */
    ptrdiff_t across;
    bool forward; /* the column's pixels, from the top, are at rising addresses */
    uint8_t *to;
    size_t to_row;
};

__attribute__((target("avx2"))) static inline void turn_square(const struct square *s)
{
    const __m128i up = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    const __m128i down = _mm_setr_epi8(9, 10, 11, -1, 6, 7, 8, -1, 3, 4, 5, -1, 0, 1, 2, -1);
    const __m128i pack = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const __m128i spread = s->forward ? up : down;
    __m128i column[SQUARE], row[SQUARE];

#pragma GCC unroll 4
    for (int i = 0; i < SQUARE; i++)
        column[i] =
            _mm_shuffle_epi8(_mm_loadu_si128((const __m128i_u *)(s->from + i * s->across)), spread);
    __m128i low01 = _mm_unpacklo_epi32(column[0], column[1]);
    __m128i low23 = _mm_unpacklo_epi32(column[2], column[3]);
    __m128i high01 = _mm_unpackhi_epi32(column[0], column[1]);
    __m128i high23 = _mm_unpackhi_epi32(column[2], column[3]);
    row[0] = _mm_unpacklo_epi64(low01, low23);
    row[1] = _mm_unpackhi_epi64(low01, low23);
    row[2] = _mm_unpacklo_epi64(high01, high23);
    row[3] = _mm_unpackhi_epi64(high01, high23);
#pragma GCC unroll 4
    for (size_t i = 0; i < SQUARE; i++)
        _mm_storeu_si128((__m128i_u *)(s->to + i * s->to_row), _mm_shuffle_epi8(row[i], pack));
}

/* A row backwards, five pixels at a time: 16 bytes are read, of which the first is none of theirs,
 * and written, of which the last is repaired by what comes next. */
__attribute__((target("avx2"))) static void reverse_row(const uint8_t *from, uint8_t *to, int width)
{
    enum { FIVE = 5 };
    const __m128i backwards = _mm_setr_epi8(13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, -1);
    const uint8_t *end = from + (ptrdiff_t)width * RGB;
    int x = 0;

    for (; x < width - FIVE; x += FIVE, to += FIVE * RGB) {
        end -= FIVE * RGB;
        _mm_storeu_si128(
            (__m128i_u *)to,
            _mm_shuffle_epi8(_mm_loadu_si128((const __m128i_u *)(end - 1)), backwards));
    }
    for (; x < width; x++, to += RGB)
        memcpy(to, end -= RGB, RGB);
}

/* As copy_blocks for half a turn. False: not on this processor, or not of such pixels. */
static bool reverse_rows(const struct operation_run *run)
{
    const size_t row = operation_row_bytes(run);

    if (run->portable || run->bands != RGB || run->value != 180 || !__builtin_cpu_supports("avx2"))
        return false;
    for (int y = run->top; y < run->bottom; y++)
        reverse_row(run->in + (size_t)(run->size.height - 1 - y) * row, run->out + (size_t)y * row,
                    run->size.width);
    return true;
}

/* As copy_block for a quarter turn, whose squares are all inside: see square_room. Squares are
 * written from left to right, so that each one's right neighbour repairs what it wrote beyond. */
__attribute__((target("avx2"))) static void copy_squares(const struct operation_run *run,
                                                         const struct turned *view, struct block b)
{
    const size_t to_row = (size_t)run->out_size.width * RGB;
    const bool forward = view->down > 0;

    for (int y = b.top; y < b.bottom; y += SQUARE)
        for (int x = b.left; x < b.right; x += SQUARE) {
            const uint8_t *from = view->corner + x * view->across + y * view->down;

            turn_square(&(struct square){
                .from = forward ? from : from + (SQUARE - 1) * view->down,
                .across = view->across,
                .forward = forward,
                .to = run->out + (size_t)y * to_row + (size_t)x * RGB,
                .to_row = to_row,
            });
        }
}

/* What squares can make of the rows: two pixels stay at each side of the picture, since squares
 * read and write four bytes beyond themselves. */
static struct block square_room(const struct operation_run *run)
{
    enum { BESIDE = 2 };
    const struct block none = {.top = run->top, .bottom = run->top};
    const int bottom = least(run->bottom, run->out_size.height - BESIDE);
    struct block room = {.top = run->top > BESIDE ? run->top : BESIDE};

    if (run->portable || run->bands != RGB || run->value == 180 || !__builtin_cpu_supports("avx2"))
        return none;
    room.right = (run->out_size.width - BESIDE) / SQUARE * SQUARE;
    room.bottom = room.top + (bottom - room.top) / SQUARE * SQUARE;
    return room.right > 0 && room.bottom > room.top ? room : none;
}
#endif

/* Blocks of `all`, from left to right. */
static bool copy_blocks(const struct operation_run *run, struct block all,
                        void (*copy)(const struct operation_run *run, const struct turned *view,
                                     struct block b),
                        struct error *err)
{
    const struct turned view = view_of(run);

    for (int y = all.top; y < all.bottom; y += BLOCK) {
        if (!image_cancelled_check(run->cancelled, err))
            return false;
        for (int x = all.left; x < all.right; x += BLOCK)
            copy(run, &view,
                 (struct block){x, y, least(x + BLOCK, all.right), least(y + BLOCK, all.bottom)});
    }
    return true;
}

static bool rotate_quarters(const struct operation_run *run, struct error *err)
{
    const int width = run->out_size.width;
    struct block room = {.top = run->top, .bottom = run->top};

#ifdef __x86_64__
    if (reverse_rows(run))
        return image_cancelled_check(run->cancelled, err);
    room = square_room(run);
    if (!copy_blocks(run, room, copy_squares, err))
        return false;
#endif
    /* what is above, beside (which also repairs) and below */
    return copy_blocks(run, (struct block){0, run->top, width, room.top}, copy_block, err) &&
           copy_blocks(run, (struct block){room.right, room.top, width, room.bottom}, copy_block,
                       err) &&
           copy_blocks(run, (struct block){0, room.bottom, width, run->bottom}, copy_block, err);
}

/* ---- by any angle ---- */

/* For every pixel of the canvas, where it comes from, in fixed point, and the
 * four pixels around that place by their shares. Pixels beside the picture are the background, so
 * that its edge is soft. */
enum { FRACTION = 32, SHARE_BITS = 8, BANDS_MAX = 4 };

static double radians(int degrees)
{
    return degrees * M_PI / 180;
}

/* The canvas that the turned picture fits on. */
static struct image_size rotate_any_size(int degrees, struct image_size in)
{
    const double c = fabs(cos(radians(degrees))), s = fabs(sin(radians(degrees)));
    const double rounding = 1e-6; /* of the sums: no pixel for that */

    return (struct image_size){(int)ceil(in.width * c + in.height * s - rounding),
                               (int)ceil(in.width * s + in.height * c - rounding)};
}

/* The background as a pixel: RGB, RGB and transparent, or its brightness (ITU-R BT.601). */
static void background_pixel(const struct operation_run *run, uint8_t pixel[BANDS_MAX])
{
    const uint32_t r = run->background >> 16 & 0xff, g = run->background >> 8 & 0xff,
                   b = run->background & 0xff;

    memset(pixel, 0, BANDS_MAX);
    if (run->bands < 3) {
        pixel[0] = (uint8_t)((299 * r + 587 * g + 114 * b + 500) / 1000);
        return;
    }
    pixel[0] = (uint8_t)r;
    pixel[1] = (uint8_t)g;
    pixel[2] = (uint8_t)b;
}

static const uint8_t *pixel_at(const struct operation_run *run, int64_t x, int64_t y,
                               const uint8_t *beside)
{
    if (x < 0 || x >= run->size.width || y < 0 || y >= run->size.height)
        return beside;
    return run->in + ((size_t)y * (size_t)run->size.width + (size_t)x) * (size_t)run->bands;
}

/* x, y: with FRACTION bits behind the point; pixels are at whole numbers. */
static void sample(const struct operation_run *run, int64_t x, int64_t y, const uint8_t *beside,
                   uint8_t *to)
{
    const int64_t left = x >> FRACTION, top = y >> FRACTION;
    const uint32_t one = 1 << SHARE_BITS;
    const uint32_t right = (uint32_t)(x >> (FRACTION - SHARE_BITS)) & (one - 1);
    const uint32_t lower = (uint32_t)(y >> (FRACTION - SHARE_BITS)) & (one - 1);

    if (left < -1 || left >= run->size.width || top < -1 || top >= run->size.height) {
        memcpy(to, beside, (size_t)run->bands);
        return;
    }
    const uint8_t *a = pixel_at(run, left, top, beside), *b = pixel_at(run, left + 1, top, beside),
                  *c = pixel_at(run, left, top + 1, beside),
                  *d = pixel_at(run, left + 1, top + 1, beside);
    for (int i = 0; i < run->bands; i++) {
        uint32_t above = a[i] * (one - right) + b[i] * right;
        uint32_t below = c[i] * (one - right) + d[i] * right;

        to[i] =
            (uint8_t)((above * (one - lower) + below * lower + one * one / 2) >> (2 * SHARE_BITS));
    }
}

static bool rotate_any(const struct operation_run *run, struct error *err)
{
    const double unit = (double)((int64_t)1 << FRACTION);
    const double c = cos(radians(run->value)), s = sin(radians(run->value));
    const int64_t step_x = llround(c * unit), step_y = llround(-s * unit);
    uint8_t beside[BANDS_MAX];
    uint8_t *to = run->out + (size_t)run->top * (size_t)run->out_size.width * (size_t)run->bands;

    background_pixel(run, beside);
    for (int y = run->top; y < run->bottom; y++) {
        /* around the centres of both pictures, which stay where they are */
        const double dx = 0.5 - run->out_size.width / 2.0,
                     dy = y + 0.5 - run->out_size.height / 2.0;
        int64_t from_x = llround((c * dx + s * dy + run->size.width / 2.0 - 0.5) * unit);
        int64_t from_y = llround((-s * dx + c * dy + run->size.height / 2.0 - 0.5) * unit);

        if (y % OPERATION_ROWS == 0 && !image_cancelled_check(run->cancelled, err))
            return false;
        for (int x = 0; x < run->out_size.width; x++, to += run->bands) {
            sample(run, from_x, from_y, beside, to);
            from_x += step_x;
            from_y += step_y;
        }
    }
    return true;
}

/* ---- the operation ---- */

static struct image_size size_after(int degrees, struct image_size in)
{
    if (degrees % 180 == 0)
        return in;
    return degrees % 180 == 90 ? (struct image_size){in.height, in.width}
                               : rotate_any_size(degrees, in);
}

static bool parse(const char *name, const char *value, int *ret, struct error *err)
{
    enum { MOST = 1000000000, TURN = 360 };
    int64_t degrees;

    if (!string_to_int64(value, -MOST, MOST, &degrees))
        return error_set(err, ERROR_BAD_REQUEST, "%s: must be a whole number of degrees", name);
    *ret = (int)((degrees % TURN + TURN) % TURN);
    return true;
}

static double cost_ns(int degrees)
{
    return degrees % 90 == 0 ? 2 : 12;
}

static bool apply(const struct operation_run *run, struct error *err)
{
    return run->value % 90 == 0 ? rotate_quarters(run, err) : rotate_any(run, err);
}

const struct operation operation_rotate = {
    .name = "rotate", .parse = parse, .size = size_after, .cost_ns = cost_ns, .apply = apply};
