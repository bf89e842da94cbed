/* The sums of products. Vector extensions of GCC and Clang, 128 bits, which every x86-64 and arm64
 * has; what these cannot say well is in two functions with a form for SSE2. */
#include "image/resample/resample_kernels.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

/* a[2i] * b[2i] + a[2i + 1] * b[2i + 1] */
static inline i32x4 multiply_pairs(i16x8 a, i16x8 b)
{
#ifdef __SSE2__
    return (i32x4)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    i32x4 even = ((i32x4)a << 16 >> 16) * ((i32x4)b << 16 >> 16);

    return even + ((i32x4)a >> 16) * ((i32x4)b >> 16);
#endif
}

/* Four numbers to bytes, cut off at 0 and 255. */
static inline uint32_t to_pixel(i32x4 v)
{
    uint32_t pixel;
#ifdef __SSE2__
    __m128i words = _mm_packs_epi32((__m128i)v, (__m128i)v);

    pixel = (uint32_t)_mm_cvtsi128_si32(_mm_packus_epi16(words, words));
#else
    typedef uint8_t u8x4 __attribute__((vector_size(4)));
    i32x4 over = v > 255;
    u8x4 bytes = __builtin_convertvector((v & (v > 0) & ~over) | (over & 255), u8x4);

    memcpy(&pixel, &bytes, sizeof(pixel));
#endif
    return pixel;
}

static inline u8x16 load_bytes(const uint8_t *from)
{
    u8x16 v;

    memcpy(&v, from, sizeof(v));
    return v;
}

static inline i16x8 load_words(const int16_t *from)
{
    i16x8 v;

    memcpy(&v, from, sizeof(v));
    return v;
}

/* Two weights, for four products. */
static inline i16x8 spread(const int16_t *coefs)
{
    int32_t both;

    memcpy(&both, coefs, sizeof(both));
    return (i16x8)(i32x4){both, both, both, both};
}

/* a0 b0 a1 b1 ... of the first and of the last half of both */
static inline void mix(u8x16 a, u8x16 b, u8x16 mixed[2])
{
#ifdef __SSE2__
    mixed[0] = (u8x16)_mm_unpacklo_epi8((__m128i)a, (__m128i)b);
    mixed[1] = (u8x16)_mm_unpackhi_epi8((__m128i)a, (__m128i)b);
#else
    mixed[0] =
        __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    mixed[1] =
        __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
}

/* The same with 16 bits for each. */
static inline void mix_words(u8x16 a, u8x16 b, u8x16 mixed[2])
{
#ifdef __SSE2__
    mixed[0] = (u8x16)_mm_unpacklo_epi16((__m128i)a, (__m128i)b);
    mixed[1] = (u8x16)_mm_unpackhi_epi16((__m128i)a, (__m128i)b);
#else
    mixed[0] = (u8x16)__builtin_shufflevector((i16x8)a, (i16x8)b, 0, 8, 1, 9, 2, 10, 3, 11);
    mixed[1] = (u8x16)__builtin_shufflevector((i16x8)a, (i16x8)b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
}

/* Two pixels, R0 R1 G0 G1 B0 B1 X0 X1. */
static inline void store_two(int16_t *to, i32x4 first, i32x4 second)
{
    enum { DROP = RESAMPLE_COEF_BITS - RESAMPLE_LINE_BITS };
    u32x4 both = ((u32x4)(first >> DROP) & 0xffff) | (u32x4)(second >> DROP) << 16;

    memcpy(to, &both, sizeof(both));
}

/* Four pixels. */
static inline void down_four(const struct resample_column *column, const i16x8 *weights, size_t at,
                             int16_t *to)
{
    const int32_t half = 1 << (RESAMPLE_COEF_BITS - RESAMPLE_LINE_BITS - 1);
    const u8x16 zero = {0};
    i32x4 sum0 = {half, half, half, half}, sum1 = sum0, sum2 = sum0, sum3 = sum0;

    for (int k = 0; k < column->taps; k += 2) {
        u8x16 bytes[2], low[2], high[2];

        mix(load_bytes(column->rows[k] + at), load_bytes(column->rows[k + 1] + at), bytes);
        mix(bytes[0], zero, low);
        mix(bytes[1], zero, high);
        sum0 += multiply_pairs((i16x8)low[0], weights[k / 2]);
        sum1 += multiply_pairs((i16x8)low[1], weights[k / 2]);
        sum2 += multiply_pairs((i16x8)high[0], weights[k / 2]);
        sum3 += multiply_pairs((i16x8)high[1], weights[k / 2]);
    }
    store_two(to, sum0, sum1);
    store_two(to + 8, sum2, sum3);
}

void resample_down_128(const struct resample_column *column, int cells, int16_t *line)
{
    i16x8 weights[RESAMPLE_TAPS_MAX / 2];

    for (int k = 0; k < column->taps; k += 2)
        weights[k / 2] = spread(column->coefs + k);
    for (int x = 0; x < cells; x += 4)
        down_four(column, weights, (size_t)x * 4, line + (size_t)x * 4);
}

static inline uint32_t across_one(const int16_t *from, const int16_t *coefs, int taps)
{
    enum { DROP = RESAMPLE_COEF_BITS + RESAMPLE_LINE_BITS };
    const int32_t half = 1 << (DROP - 1);
    i32x4 sum = {half, half, half, half};

    for (int k = 0; k < taps; k += 2)
        sum += multiply_pairs(load_words(from + (size_t)k * 4), spread(coefs + k));
    return to_pixel(sum >> DROP);
}

/* Pixels are stored as 4 bytes, of which the next overwrites the last. */
static inline void across(const struct resample_axis *axis, int taps, const int16_t *line,
                          uint8_t *out)
{
    const int *cell = axis->cell.data;
    const int16_t *coefs = axis->coefs.data;
    uint32_t pixel;
    int last = axis->out - 1;

    for (int i = 0; i < last; i++) {
        pixel = across_one(line + (size_t)cell[i] * 4, coefs + (size_t)i * (size_t)taps, taps);
        memcpy(out + (size_t)i * 3, &pixel, 4);
    }
    pixel = across_one(line + (size_t)cell[last] * 4, coefs + (size_t)last * (size_t)taps, taps);
    memcpy(out + (size_t)last * 3, &pixel, 3);
}

void resample_across_128(const struct resample_axis *axis, const int16_t *line, uint8_t *out)
{
    across(axis, axis->taps, line, out);
}

void resample_down(const struct resample_column *column, int cells, int16_t *line)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        resample_down_avx2(column, cells, line);
        return;
    }
#endif
    resample_down_128(column, cells, line);
}

void resample_across(const struct resample_axis *axis, const int16_t *line, uint8_t *out)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        resample_across_avx2(axis, line, out);
        return;
    }
#endif
    resample_across_128(axis, line, out);
}

void resample_copy(const uint8_t *rgbx, size_t pixels, uint8_t *out)
{
    size_t last = pixels - 1;

    for (size_t i = 0; i < last; i++)
        memcpy(out + i * 3, rgbx + i * 4, 4);
    memcpy(out + last * 3, rgbx + last * 4, 3);
}

void resample_add(const uint8_t *row, size_t pixels, uint32_t *sums)
{
    const u8x16 zero = {0};
    size_t i = 0, samples = pixels * 4;

    for (; i + 16 <= samples; i += 16) {
        u8x16 words[2], low[2], high[2];
        u32x4 sum[4];

        memcpy(sum, sums + i, sizeof(sum));
        mix(load_bytes(row + i), zero, words);
        mix_words(words[0], zero, low);
        mix_words(words[1], zero, high);
        sum[0] += (u32x4)low[0];
        sum[1] += (u32x4)low[1];
        sum[2] += (u32x4)high[0];
        sum[3] += (u32x4)high[1];
        memcpy(sums + i, sum, sizeof(sum));
    }
    for (; i < samples; i++)
        sums[i] += row[i];
}

/* float: sums of columns are below 2^24, and so are most of boxes; larger ones lose nothing that a
 * byte shows. */
void resample_average(const uint32_t *sums, size_t columns, const struct resample_box *box,
                      uint8_t *to)
{
    typedef float f32x4 __attribute__((vector_size(16)));
    const float share = 1.0F / ((float)box->width * (float)box->height);

    for (size_t left = 0; left < columns; left += box->width, to += 4) {
        size_t there = columns - left < box->width ? columns - left : box->width;
        f32x4 total = {0}, column = {0};
        uint32_t pixel;

        for (size_t x = left; x < left + there; x++) {
            i32x4 sum;

            memcpy(&sum, sums + x * 4, sizeof(sum));
            column = __builtin_convertvector(sum, f32x4);
            total += column;
        }
        total += column * (float)(box->width - there);
        pixel = to_pixel(__builtin_convertvector(total * share + 0.5F, i32x4));
        memcpy(to, &pixel, sizeof(pixel));
    }
}
