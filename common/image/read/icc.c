/* Is an embedded profile sRGB? Most are, and a colour transform that changes nothing costs more
 * than everything else done to a small photograph (measured: 5 of 10 ms). Names lie and vary, so
 * the numbers are compared: primaries and curves, to half a step of 8 bits. */
#include "image/read/colours.h"

#include <math.h>
#include <string.h>

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static double get_fixed(const uint8_t *p)
{
    return (int32_t)get32(p) / 65536.0;
}

/* The data of a tag; empty if it is missing or outside the profile. */
static struct bytes find_tag(struct bytes profile, const char *name)
{
    uint32_t count = get32(profile.data + 128);

    for (size_t i = 0, pos = 132; i < count && pos + 12 <= profile.len; i++, pos += 12) {
        uint32_t from = get32(profile.data + pos + 4), len = get32(profile.data + pos + 8);

        if (memcmp(profile.data + pos, name, 4) == 0)
            return from <= profile.len && len <= profile.len - from
                       ? bytes_of(profile.data + from, len)
                       : bytes_of(NULL, 0);
    }
    return bytes_of(NULL, 0);
}

static bool is_colour(struct bytes tag, const double xyz[3])
{
    if (tag.len < 20 || memcmp(tag.data, "XYZ ", 4) != 0)
        return false;
    for (int i = 0; i < 3; i++) {
        if (fabs(get_fixed(tag.data + 8 + 4 * i) - xyz[i]) > 0.002)
            return false;
    }
    return true;
}

static double srgb_curve(double x)
{
    return x <= 0.04045 ? x / 12.92 : pow((x + 0.055) / 1.055, 2.4);
}

/* A curve's value at x in (0, 1): a table, or the parametric curve of sRGB's kind; else -1. */
static double curve_at(struct bytes tag, double x)
{
    const uint8_t *p = tag.data;

    if (tag.len >= 32 && memcmp(p, "para\0\0\0\0\0\3", 10) == 0) {
        double g = get_fixed(p + 12), a = get_fixed(p + 16), b = get_fixed(p + 20);
        return x >= get_fixed(p + 28) ? pow(a * x + b, g) : get_fixed(p + 24) * x;
    }
    if (tag.len >= 12 && memcmp(p, "curv", 4) == 0) {
        uint32_t count = get32(p + 8), at;
        double low, high;

        if (count < 16 || count > (tag.len - 12) / 2)
            return -1;
        x *= count - 1;
        at = (uint32_t)x;
        low = p[12 + 2 * at] << 8 | p[13 + 2 * at];
        high = p[14 + 2 * at] << 8 | p[15 + 2 * at];
        return (low + (high - low) * (x - at)) / 65535;
    }
    return -1;
}

static bool is_srgb_curve(struct bytes tag)
{
    static const double points[] = {0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95};
    const double half_step = 0.5 / 255;

    for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
        double y = curve_at(tag, points[i]);

        if (!(y >= srgb_curve(points[i] - half_step) && y <= srgb_curve(points[i] + half_step)))
            return false;
    }
    return true;
}

bool icc_is_srgb(struct bytes profile)
{
    static const double red[] = {0.4361, 0.2225, 0.0139}, green[] = {0.3851, 0.7169, 0.0971},
                        blue[] = {0.1431, 0.0606, 0.7141}; /* adapted to D50 */

    return profile.len >= 132 && memcmp(profile.data + 16, "RGB XYZ ", 8) == 0 &&
           find_tag(profile, "A2B0").len == 0 && is_colour(find_tag(profile, "rXYZ"), red) &&
           is_colour(find_tag(profile, "gXYZ"), green) &&
           is_colour(find_tag(profile, "bXYZ"), blue) && is_srgb_curve(find_tag(profile, "rTRC")) &&
           is_srgb_curve(find_tag(profile, "gTRC")) && is_srgb_curve(find_tag(profile, "bTRC"));
}
