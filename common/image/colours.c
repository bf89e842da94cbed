/* Embedded colour profiles on pixels in memory, by lcms2. Most photographs of a source have the
 * same one, so the worker keeps the last transform. */
#include "image/colours.h"

#include <lcms2.h>
#include <string.h>

void colours_done(struct colours *c)
{
    if (c->transform != NULL)
        cmsDeleteTransform(c->transform);
    if (c->context != NULL)
        cmsDeleteContext(c->context);
    scratch_done(&c->profile);
    *c = (struct colours){0};
}

/* NULL: the profile is broken, or for other pixels. */
static cmsHTRANSFORM make_transform(cmsContext context, struct bytes profile, int bands)
{
    cmsHPROFILE in, out;
    cmsHTRANSFORM transform = NULL;

    in = profile.len <= UINT32_MAX
             ? cmsOpenProfileFromMemTHR(context, profile.data, (cmsUInt32Number)profile.len)
             : NULL;
    if (in == NULL)
        return NULL;
    out = cmsCreate_sRGBProfileTHR(context);
    if (out != NULL && cmsGetColorSpace(in) == (bands == 1 ? cmsSigGrayData : cmsSigRgbData))
        transform = cmsCreateTransformTHR(context, in, bands == 1 ? TYPE_GRAY_8 : TYPE_RGB_8, out,
                                          TYPE_RGB_8, INTENT_RELATIVE_COLORIMETRIC, 0);
    if (out != NULL)
        cmsCloseProfile(out);
    cmsCloseProfile(in);
    return transform;
}

/* Whether c->transform is what `profile` needs; NULL is remembered, too. */
static bool is_kept(const struct colours *c, struct bytes profile, int bands)
{
    return c->bands == bands && c->profile_len == profile.len &&
           memcmp(c->profile.data, profile.data, profile.len) == 0;
}

static bool keep(struct colours *c, struct bytes profile, int bands, struct error *err)
{
    if (c->context == NULL)
        c->context = cmsCreateContext(NULL, NULL);
    if (c->context == NULL)
        return error_oom(err);
    if (c->transform != NULL)
        cmsDeleteTransform(c->transform);
    c->transform = NULL;
    c->bands = 0;
    if (!scratch_need(&c->profile, profile.len, err))
        return false;
    memcpy(c->profile.data, profile.data, profile.len);
    c->profile_len = profile.len;
    c->bands = bands;
    c->transform = make_transform(c->context, profile, bands);
    return true;
}

bool colours_to_srgb(struct colours *c, struct bytes profile, struct colours_pixels *pixels,
                     struct error *err)
{
    if (profile.len == 0 || (pixels->bands == 3 && icc_is_srgb(profile)))
        return true;
    if (!is_kept(c, profile, pixels->bands) && !keep(c, profile, pixels->bands, err))
        return false;
    if (c->transform == NULL)
        return true;
    for (size_t done = 0; done < pixels->count;) {
        enum { STEP = 4096 };
        uint8_t grey[STEP], *rgb = pixels->rgb + 3 * done;
        size_t n = pixels->count - done < STEP ? pixels->count - done : STEP;

        for (size_t i = 0; i < n && pixels->bands == 1; i++)
            grey[i] = rgb[3 * i];
        cmsDoTransform(c->transform, pixels->bands == 1 ? grey : rgb, rgb, (cmsUInt32Number)n);
        done += n;
    }
    return true;
}
