/* Code points to an ICC profile, so that there is one way of converting colours. Constants without
 * a name are those of ITU-T H.273 (2021), tables 2 and 3. */
#include "image/read/cicp.h"

#include "image/private.h"

#include <lcms2.h>
#include <math.h>
#include <string.h>

enum { PRIMARIES_SRGB = 1, PRIMARIES_UNSPECIFIED = 2 };
enum { LINEAR = 8, LOG_100 = 9, LOG_316 = 10, PQ = 16, DCI = 17, HLG = 18 };

#define D65                                                                                        \
    {                                                                                              \
        0.3127, 0.3290                                                                             \
    }
#define C                                                                                          \
    {                                                                                              \
        0.310, 0.316                                                                               \
    }
static const struct {
    double red[2], green[2], blue[2], white[2];
} primaries[] = {
    [4] = {{0.67, 0.33}, {0.21, 0.71}, {0.14, 0.08}, C},                     /* NTSC of 1953 */
    [5] = {{0.64, 0.33}, {0.29, 0.60}, {0.15, 0.06}, D65},                   /* PAL */
    [6] = {{0.630, 0.340}, {0.310, 0.595}, {0.155, 0.070}, D65},             /* SMPTE 170M */
    [7] = {{0.630, 0.340}, {0.310, 0.595}, {0.155, 0.070}, D65},             /* SMPTE 240M */
    [8] = {{0.681, 0.319}, {0.243, 0.692}, {0.145, 0.049}, C},               /* film */
    [9] = {{0.708, 0.292}, {0.170, 0.797}, {0.131, 0.046}, D65},             /* BT.2020 */
    [11] = {{0.680, 0.320}, {0.265, 0.690}, {0.150, 0.060}, {0.314, 0.351}}, /* DCI-P3 */
    [12] = {{0.680, 0.320}, {0.265, 0.690}, {0.150, 0.060}, D65},            /* Display P3 */
    [22] = {{0.630, 0.340}, {0.295, 0.605}, {0.155, 0.077}, D65},            /* EBU 3213 */
};

static bool other_primaries(const struct cicp *c)
{
    return c->primaries > 0 && (size_t)c->primaries < ARRAY_SIZE(primaries) &&
           primaries[c->primaries].white[0] > 0;
}

/* What cameras record by (BT.709, 601, 2020) is shown as sRGB, as browsers do: displays never
 * undid exactly that curve. */
static bool other_curve(int transfer)
{
    return transfer == 4 || transfer == 5 || (transfer >= LINEAR && transfer <= LOG_316) ||
           transfer == PQ || transfer == DCI || transfer == HLG;
}

bool cicp_differs(const struct cicp *c)
{
    return other_primaries(c) || other_curve(c->transfer) || c->narrow;
}

static double srgb_light(double x)
{
    return x <= 0.04045 ? x / 12.92 : pow((x + 0.055) / 1.055, 2.4);
}

static double pq_nits(double x)
{
    const double m1 = 2610.0 / 16384, m2 = 2523.0 / 32, c1 = 107.0 / 128, c2 = 2413.0 / 128,
                 c3 = 2392.0 / 128;
    double p = pow(x, 1 / m2);

    return 10000 * pow(fmax(p - c1, 0) / (c2 - c3 * p), 1 / m1);
}

/* On a display of 1,000 cd/m2, whose system gamma is 1.2 (ITU-R BT.2100, table 5). */
static double hlg_nits(double x)
{
    const double a = 0.17883277, b = 1 - 4 * a, c = 0.5 - a * log(4 * a);
    double scene = x <= 0.5 ? x * x / 3 : (exp((x - c) / a) + b) / 12;

    return 1000 * pow(scene, 1.2);
}

/* White is at 203 cd/m2 (ITU-R BT.2408), and 1,000 cd/m2 is the brightest that is told from
 * more: Reinhard's curve with a white point, as Chromium has it. */
static double ordinary_light(double nits)
{
    const double white = 203, brightest = 1000 / white;
    double x = fmin(nits / white, brightest);

    return x * (1 + x / (brightest * brightest)) / (1 + x);
}

static double light(int transfer, double x)
{
    switch (transfer) {
    case 4:
        return pow(x, 2.2);
    case 5:
        return pow(x, 2.8);
    case LINEAR:
        return x;
    case LOG_100:
        return x == 0 ? 0 : pow(10, 2 * (x - 1));
    case LOG_316:
        return x == 0 ? 0 : pow(10, 2.5 * (x - 1));
    case PQ:
        return ordinary_light(pq_nits(x));
    case DCI:
        return fmin(52.37 / 48 * pow(x, 2.6), 1);
    case HLG:
        return ordinary_light(hlg_nits(x));
    default:
        return srgb_light(x);
    }
}

static cmsToneCurve *make_curve(const struct cicp *c)
{
    enum { STEPS = 4096 };
    cmsUInt16Number table[STEPS];

    for (int i = 0; i < STEPS; i++) {
        double x = (double)i / (STEPS - 1);

        if (c->narrow)
            x = fmin(fmax((x * 255 - 16) / 219, 0), 1);
        table[i] = (cmsUInt16Number)lround(65535 * light(c->transfer, x));
    }
    return cmsBuildTabulatedToneCurve16(NULL, STEPS, table);
}

static cmsHPROFILE make_profile(const struct cicp *c, bool grey, cmsToneCurve *curve)
{
    const cmsCIExyY d65 = {0.3127, 0.3290, 1};
    cmsCIExyYTRIPLE srgb = {{0.640, 0.330, 1}, {0.300, 0.600, 1}, {0.150, 0.060, 1}};
    cmsToneCurve *curves[] = {curve, curve, curve};

    if (grey)
        return cmsCreateGrayProfile(cmsD50_xyY(), curve);
    if (!other_primaries(c))
        return cmsCreateRGBProfile(&d65, &srgb, curves);
    const double *r = primaries[c->primaries].red, *g = primaries[c->primaries].green,
                 *b = primaries[c->primaries].blue, *w = primaries[c->primaries].white;
    cmsCIExyY white = {w[0], w[1], 1};
    cmsCIExyYTRIPLE rgb = {{r[0], r[1], 1}, {g[0], g[1], 1}, {b[0], b[1], 1}};
    return cmsCreateRGBProfile(&white, &rgb, curves);
}

bool cicp_profile(const struct cicp *c, bool grey, struct buffer *ret, struct error *err)
{
    cmsToneCurve *curve = make_curve(c);
    cmsHPROFILE profile = curve != NULL ? make_profile(c, grey, curve) : NULL;
    cmsUInt32Number len = 0;
    bool ok = profile != NULL && cmsSaveProfileToMem(profile, NULL, &len) &&
              buffer_reserve(ret, len, err) && cmsSaveProfileToMem(profile, ret->data, &len);

    ret->len = ok ? len : 0;
    if (profile != NULL)
        cmsCloseProfile(profile);
    if (curve != NULL)
        cmsFreeToneCurve(curve);
    return ok || error_oom(err);
}

/* Before the pixels, as the PNG specification demands; other readers ignore one behind. */
struct cicp png_cicp_read(struct bytes data)
{
    const struct bytes chunk = png_chunk(data, "cICP");

    if (chunk.len != 4)
        return (struct cicp){0};
    return (struct cicp){chunk.data[0], chunk.data[1], .narrow = chunk.data[3] == 0};
}
