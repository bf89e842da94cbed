/* resample_kernels.c with 256 bits, for processors that have them: chosen when run, and compiled
 * for every x86-64. */
#include "image/resample/resample_kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))

typedef __m256i wide;

/* Two times two pixels, of each R0 R1 G0 G1 B0 B1 X0 X1. */
static AVX2 inline wide pair_up(wide first, wide second)
{
    enum { DROP = RESAMPLE_COEF_BITS - RESAMPLE_LINE_BITS };
    wide even = _mm256_and_si256(_mm256_srai_epi32(first, DROP), _mm256_set1_epi32(0xffff));

    return _mm256_or_si256(even, _mm256_slli_epi32(_mm256_srai_epi32(second, DROP), 16));
}

static AVX2 inline wide load(const void *from)
{
    return _mm256_loadu_si256((const __m256i_u *)from);
}

/* Eight pixels. Halves of 128 bits stay apart until they are stored. */
static AVX2 inline void down_eight(const struct resample_column *column, const wide *weights,
                                   size_t at, int16_t *to)
{
    const wide zero = _mm256_setzero_si256();
    wide sum04 = _mm256_set1_epi32(1 << (RESAMPLE_COEF_BITS - RESAMPLE_LINE_BITS - 1));
    wide sum15 = sum04, sum26 = sum04, sum37 = sum04;

    for (int k = 0; k < column->taps; k += 2) {
        wide a = load(column->rows[k] + at), b = load(column->rows[k + 1] + at);
        wide low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
        wide w = weights[k / 2];

        sum04 = _mm256_add_epi32(sum04, _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), w));
        sum15 = _mm256_add_epi32(sum15, _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), w));
        sum26 = _mm256_add_epi32(sum26, _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), w));
        sum37 = _mm256_add_epi32(sum37, _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), w));
    }
    wide outer = pair_up(sum04, sum15), inner = pair_up(sum26, sum37);

    _mm256_storeu_si256((__m256i_u *)to, _mm256_permute2x128_si256(outer, inner, 0x20));
    _mm256_storeu_si256((__m256i_u *)(to + 16), _mm256_permute2x128_si256(outer, inner, 0x31));
}

AVX2 void resample_down_avx2(const struct resample_column *column, int cells, int16_t *line)
{
    wide weights[RESAMPLE_TAPS_MAX / 2];

    for (int k = 0; k < column->taps; k += 2) {
        int32_t both;

        memcpy(&both, column->coefs + k, sizeof(both));
        weights[k / 2] = _mm256_set1_epi32(both);
    }
    for (int x = 0; x < cells; x += RESAMPLE_BLOCK)
        down_eight(column, weights, (size_t)x * 4, line + (size_t)x * 4);
}

static AVX2 inline uint32_t across_one(const int16_t *from, const int16_t *coefs, int taps)
{
    enum { DROP = RESAMPLE_COEF_BITS + RESAMPLE_LINE_BITS };
    const wide spread = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    wide sum = _mm256_setzero_si256();
    __m128i half = _mm_set1_epi32(1 << (DROP - 1));
    int k = 0;

#pragma GCC unroll 8
    for (; k + 4 <= taps; k += 4) {
        int64_t four;

        memcpy(&four, coefs + k, sizeof(four));
        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(load(from + (size_t)k * 4),
                                   _mm256_permutevar8x32_epi32(
                                       _mm256_castsi128_si256(_mm_cvtsi64_si128(four)), spread)));
    }
    if (k < taps) {
        int32_t both;

        memcpy(&both, coefs + k, sizeof(both));
        half = _mm_add_epi32(
            half, _mm_madd_epi16(_mm_loadu_si128((const __m128i_u *)(from + (size_t)k * 4)),
                                 _mm_set1_epi32(both)));
    }
    half = _mm_add_epi32(
        half, _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1)));
    half = _mm_srai_epi32(half, DROP);
    half = _mm_packs_epi32(half, half);
    return (uint32_t)_mm_cvtsi128_si32(_mm_packus_epi16(half, half));
}

static AVX2 inline __attribute__((always_inline)) void
across(const struct resample_axis *axis, int taps, const int16_t *line, uint8_t *out)
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

/* The numbers of taps of enlarging, and of shrinking to half: unrolled, which saves a tenth. */
AVX2 void resample_across_avx2(const struct resample_axis *axis, const int16_t *line, uint8_t *out)
{
#define UNROLLED(n)                                                                                \
    case n:                                                                                        \
        across(axis, n, line, out);                                                                \
        return
    switch (axis->taps) {
        UNROLLED(8);
        UNROLLED(10);
        UNROLLED(12);
        UNROLLED(14);
    default:
        across(axis, axis->taps, line, out);
    }
#undef UNROLLED
}
#endif
