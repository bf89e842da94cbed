/* The median of large windows in constant time a pixel: S. Perreault and P. Hébert, "Median
 * Filtering in Constant Time", IEEE Transactions on Image Processing 16(9), 2007. Every column
 * keeps a histogram of its k pixels; a window's is the sum of k of them, and moves on by adding one
 * and taking one away. Histograms have two tiers, and the fine one is brought up to date only where
 * the coarse one says that the median is.
 *
 * A window of MEDIAN_MAX holds 225 pixels, so counters are bytes, and 16 of them one vector of 128
 * bits, which every x86-64 and arm64 has: here one form is enough. */
#include "image/ops/median.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    BINS = 16,   /* of a tier */
    STRIP = 256, /* columns at a time: their histograms stay in the L2 cache */
    COLUMNS_MAX = STRIP + MEDIAN_MAX - 1,
};
_Static_assert(MEDIAN_MAX *MEDIAN_MAX <= UINT8_MAX, "a counter is a byte");

typedef uint8_t bins __attribute__((vector_size(BINS)));

struct histograms {
    bins coarse[COLUMNS_MAX];
    bins fine[BINS][COLUMNS_MAX]; /* by the upper half of a value */
};

/* A channel of some columns; the first and the last of the picture go on for ever. */
struct strip {
    const struct operation_run *run;
    struct histograms *columns;
    int first, count; /* of the output */
    int channel;
};

static int column_of(const struct strip *s, int i)
{
    int x = s->first - s->run->value / 2 + i, last = s->run->size.width - 1;

    return x < 0 ? 0 : x > last ? last : x;
}

static void count_row(const struct strip *s, int y, uint8_t by)
{
    const uint8_t *row = median_source(s->run, y) + s->channel;

    for (int i = 0; i < s->count + s->run->value - 1; i++) {
        uint8_t v = row[column_of(s, i) * s->run->bands];

        s->columns->coarse[i][v >> 4] = (uint8_t)(s->columns->coarse[i][v >> 4] + by);
        s->columns->fine[v >> 4][i][v & 15] = (uint8_t)(s->columns->fine[v >> 4][i][v & 15] + by);
    }
}

/* The sums of the first, the first two, … counters. */
static inline bins sums_of(bins v)
{
#ifdef __SSE2__
    __m128i sum = (__m128i)v;

    sum = _mm_add_epi8(sum, _mm_slli_si128(sum, 1));
    sum = _mm_add_epi8(sum, _mm_slli_si128(sum, 2));
    sum = _mm_add_epi8(sum, _mm_slli_si128(sum, 4));
    return (bins)_mm_add_epi8(sum, _mm_slli_si128(sum, 8));
#else
    for (int i = 1; i < BINS; i++)
        v[i] = (uint8_t)(v[i] + v[i - 1]);
    return v;
#endif
}

/* The first counter with which the sum is over `rank`, which falls by what is before it. */
static inline int find(bins counters, int *rank)
{
    bins sums = sums_of(counters);
    int i = 0;
#ifdef __SSE2__
    /* unsigned: over, when it is its own maximum with rank + 1 */
    __m128i least = _mm_set1_epi8((char)(*rank + 1));
    int over = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8((__m128i)sums, least), (__m128i)sums));

    i = __builtin_ctz((unsigned)over);
#else
    while (sums[i] <= *rank)
        i++;
#endif
    if (i > 0)
        *rank -= sums[i - 1];
    return i;
}

static void median_row(const struct strip *s, int y)
{
    const struct operation_run *run = s->run;
    const struct histograms *h = s->columns;
    const int k = run->value, bands = run->bands;
    uint8_t *out = run->out + (size_t)y * operation_row_bytes(run) +
                   (size_t)s->first * (size_t)bands + s->channel;
    bins coarse = {0}, fine[BINS] = {{0}};
    int upto[BINS] = {0}; /* fine[b] is of the columns [upto - k, upto); 0: of none */

    for (int i = 0; i < k - 1; i++)
        coarse += h->coarse[i];
    for (int x = 0; x < s->count; x++) {
        int rank = k * k / 2, end = x + k;

        coarse += h->coarse[end - 1];
        int b = find(coarse, &rank);
        bins f = fine[b];
        if (upto[b] <= x) { /* nothing of it is left */
            f = (bins){0};
            for (int i = x; i < end; i++)
                f += h->fine[b][i];
        } else {
            for (int i = upto[b]; i < end; i++)
                f += h->fine[b][i] - h->fine[b][i - k];
        }
        fine[b] = f;
        upto[b] = end;
        out[(size_t)x * (size_t)bands] = (uint8_t)(b << 4 | find(f, &rank));
        coarse -= h->coarse[x];
    }
}

static bool median_strip(const struct strip *s, struct error *err)
{
    const int reach = s->run->value / 2;

    memset(s->columns, 0, sizeof(*s->columns));
    for (int y = s->run->top - reach; y < s->run->top + reach; y++)
        count_row(s, y, 1);
    for (int y = s->run->top; y < s->run->bottom; y++) {
        if (y % OPERATION_ROWS == 0 && !image_cancelled_check(s->run->cancelled, err))
            return false;
        count_row(s, y + reach, 1);
        median_row(s, y);
        count_row(s, y - reach, UINT8_MAX); /* - 1 */
    }
    return true;
}

bool median_by_histogram(const struct operation_run *run, struct error *err)
{
    if (!scratch_buffer_need(run->work, sizeof(struct histograms), err))
        return false;
    struct strip s = {.run = run, .columns = (struct histograms *)(void *)run->work->data};

    for (s.first = 0; s.first < run->size.width; s.first += STRIP) {
        int left = run->size.width - s.first;

        s.count = left < STRIP ? left : STRIP;
        for (s.channel = 0; s.channel < run->bands; s.channel++)
            if (!median_strip(&s, err))
                return false;
    }
    return true;
}
