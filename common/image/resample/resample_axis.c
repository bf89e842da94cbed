/* The weights of one axis. */
#include "image/resample/resample_axis.h"

#include <math.h>
#include <string.h>

enum {
    LOBES = 3,
    BOX_UNTIL = RESAMPLE_BOX_FROM / 2, /* the factor that is left to the kernel, or somewhat more */
};

bool resample_buffer_grow(struct resample_buffer *buffer, size_t size, struct error *err)
{
    if (buffer->size >= size)
        return true;
    free(buffer->data);
    buffer->size = 0;
    buffer->data = aligned_alloc(64, (size + 63) / 64 * 64);
    if (buffer->data == NULL)
        return error_oom(err);
    buffer->size = size;
    return true;
}

/* sinc(x) sinc(x / 3) for |x| <= 3. With s = sin(pi x / 3), sin(pi x) is 3 s - 4 s^3, so that one
 * sinc is enough; it is by Taylor's series, within 1e-8. Several times faster than sin(). */
static double lanczos(double x)
{
    double z = x * x * (M_PI * M_PI / (LOBES * LOBES));
    double sinc =
        1 + z * (-1 / 6. +
                 z * (1 / 120. + z * (-1 / 5040. +
                                      z * (1 / 362880. + z * (-1 / 39916800. +
                                                              z * (1 / 6227020800. +
                                                                   z * (-1 / 1307674368000. +
                                                                        z / 355687428096000.)))))));
    double square = sinc * sinc;

    return square * (1 - 4 / 3. * z * square);
}

/* Keys' cubic with a = -0.5 */
static double cubic(double x)
{
    double t = fabs(x);

    if (t >= 2)
        return 0;
    return t >= 1 ? ((2.5 - 0.5 * t) * t - 4) * t + 2 : (1.5 * t - 2.5) * t * t + 1;
}

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* An axis in cells instead of pixels. */
struct scale {
    double start, step; /* of the window; cells for an output */
    double widen;       /* of the kernel: at least 1 */
    int room;           /* for the taps of an output */
};

static int first_tap(const struct scale *s, int i)
{
    return (int)ceil(s->start + (i + 0.5) * s->step - LOBES * s->widen - 0.5);
}

/* The weights of output i, from its first tap on. Beyond the edges the outermost cell counts. */
static void weigh(const struct scale *s, int cells, int i, int16_t *coefs)
{
    enum { ROUND = 1 << 16 }; /* so that truncating rounds negative numbers, too */
    double centre = s->start + (i + 0.5) * s->step - 0.5, narrow = 1 / s->widen, sum = 0, scaled;
    double weights[RESAMPLE_TAPS_MAX];
    int from = first_tap(s, i), left = 1 << RESAMPLE_COEF_BITS;
    int middle = clamp((int)floor(centre + 0.5), 0, cells - 1) - from;

    memset(weights, 0, (size_t)s->room * sizeof(*weights));
    for (int k = 0; k < s->room; k++) {
        double x = (from + k - centre) * narrow;
        double w = s->step < 1 ? cubic(x) : fabs(x) < LOBES ? lanczos(x) : 0;

        weights[clamp(from + k, 0, cells - 1) - from] += w;
        sum += w;
    }
    scaled = (1 << RESAMPLE_COEF_BITS) / sum;
    for (int k = 0; k < s->room; k++) {
        coefs[k] = (int16_t)((int)(weights[k] * scaled + ROUND + 0.5) - ROUND);
        left -= coefs[k];
    }
    coefs[middle] = (int16_t)(coefs[middle] + left); /* together exactly 1 */
}

/* Taps that are nothing in every output are left out: with whole steps that is most of them, and
 * without scaling all but one. The others move together. */
static void pack(struct resample_axis *axis, const struct scale *s, int align)
{
    int16_t *coefs = axis->coefs.data;
    int *cell = axis->cell.data;
    int lead = s->room, end = 0;

    for (int i = 0; i < axis->out; i++) {
        int k = 0;

        while (coefs[(size_t)i * (size_t)s->room + (size_t)k] == 0)
            k++;
        lead = k < lead ? k : lead;
    }
    for (int i = 0; i < axis->out; i++) {
        int from = first_tap(s, i), k = s->room;

        while (coefs[(size_t)i * (size_t)s->room + (size_t)k - 1] == 0)
            k--;
        cell[i] = clamp(from + lead, 0, axis->cells - 1) / align * align;
        end = from + k - cell[i] > end ? from + k - cell[i] : end;
    }
    axis->taps = (end + 1) / 2 * 2;
    for (int i = 0; i < axis->out; i++) {
        int16_t row[RESAMPLE_TAPS_MAX] = {0};
        int skip = cell[i] - first_tap(s, i);

        for (int k = 0; k < axis->taps; k++)
            if (k + skip >= 0 && k + skip < s->room)
                row[k] = coefs[(size_t)i * (size_t)s->room + (size_t)(k + skip)];
        memcpy(coefs + (size_t)i * (size_t)axis->taps, row, (size_t)axis->taps * sizeof(*row));
    }
}

/* Which pixels are needed, and in what cells. */
static struct scale place(struct resample_axis *axis)
{
    double step = axis->length / axis->out, reach = LOBES * fmax(step, 1);
    struct scale s;

    axis->whole = axis->length == axis->out && axis->start == floor(axis->start);
    if (axis->whole)
        reach = 0.5;
    axis->box = step > RESAMPLE_BOX_FROM ? (int)(step / BOX_UNTIL) : 1;
    axis->first = clamp((int)floor(axis->start + step / 2 - reach), 0, axis->src - 1);
    axis->last =
        clamp((int)ceil(axis->start + axis->length - step / 2 + reach), axis->first + 1, axis->src);
    axis->cells = (axis->last - axis->first + axis->box - 1) / axis->box;
    axis->last = clamp(axis->first + axis->cells * axis->box, 0, axis->src);
    s.start = (axis->start - axis->first) / axis->box;
    s.step = step / axis->box;
    s.widen = fmax(s.step, 1);
    s.room = 2 * (int)ceil(LOBES * s.widen) + 2;
    return s;
}

bool resample_axis_set(struct resample_axis *axis, const struct resample_axis *wanted, int align,
                       struct error *err)
{
    size_t out = (size_t)wanted->out;
    struct scale s;

    if (axis->src == wanted->src && axis->out == wanted->out && axis->start == wanted->start &&
        axis->length == wanted->length)
        return true;
    axis->src = wanted->src;
    axis->out = wanted->out;
    axis->start = wanted->start;
    axis->length = wanted->length;
    s = place(axis);
    if (!resample_buffer_grow(&axis->cell, out * sizeof(int), err) ||
        !resample_buffer_grow(&axis->coefs, out * (size_t)s.room * sizeof(int16_t), err)) {
        axis->src = 0; /* no tables */
        return false;
    }
    for (int i = 0; i < axis->out; i++)
        weigh(&s, axis->cells, i, (int16_t *)axis->coefs.data + (size_t)i * (size_t)s.room);
    pack(axis, &s, align);
    return true;
}
