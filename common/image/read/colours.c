/* Embedded colour profiles on pixels in memory, by lcms2. Photographs of a source have the same
 * one, and making a transform takes several times as long as using it on a small picture (measured:
 * 0.2 ms), so a thread keeps the last few. */
#include "image/read/colours.h"

#include <lcms2.h>
#include <string.h>

static void profile_done(struct colour_profile *p)
{
    if (p->transform != NULL)
        cmsDeleteTransform(p->transform);
    scratch_buffer_done(&p->data);
    *p = (struct colour_profile){0};
}

void colours_done(struct colours *c)
{
    for (size_t i = 0; i < COLOURS_KEPT; i++)
        profile_done(&c->kept[i]);
    if (c->context != NULL)
        cmsDeleteContext(c->context);
    *c = (struct colours){0};
}

void colours_trim(struct colours *c, size_t keep_bytes)
{
    for (size_t i = 0; i < COLOURS_KEPT; i++)
        if (c->kept[i].data.size > keep_bytes)
            profile_done(&c->kept[i]);
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

static struct colour_profile *find(struct colours *c, struct bytes profile, int bands)
{
    for (size_t i = 0; i < COLOURS_KEPT; i++) {
        struct colour_profile *p = &c->kept[i];

        if (p->bands == bands && bytes_equal(bytes_of(p->data.data, p->len), profile))
            return p;
    }
    return NULL;
}

/* In the place of the oldest one. */
static struct colour_profile *keep(struct colours *c, struct bytes profile, int bands,
                                   struct error *err)
{
    struct colour_profile *p = &c->kept[c->next];

    if (c->context == NULL)
        c->context = cmsCreateContext(NULL, NULL);
    profile_done(p);
    if (c->context == NULL || !scratch_buffer_need(&p->data, profile.len, err)) {
        (void)error_oom(err);
        return NULL;
    }
    memcpy(p->data.data, profile.data, profile.len);
    p->len = profile.len;
    p->bands = bands;
    p->transform = make_transform(c->context, profile, bands);
    c->next = (c->next + 1) % COLOURS_KEPT;
    return p;
}

bool colours_to_srgb(struct colours *c, struct bytes profile, struct colours_pixels *pixels,
                     struct error *err)
{
    struct colour_profile *p;

    if (profile.len == 0 || (pixels->bands == 3 && icc_is_srgb(profile)))
        return true;
    p = find(c, profile, pixels->bands);
    if (p == NULL)
        p = keep(c, profile, pixels->bands, err);
    if (p == NULL)
        return false;
    if (p->transform == NULL)
        return true;
    for (size_t done = 0; done < pixels->count;) {
        enum { STEP = 4096 };
        uint8_t grey[STEP], *rgb = pixels->rgb + 3 * done;
        size_t n = pixels->count - done < STEP ? pixels->count - done : STEP;

        for (size_t i = 0; i < n && pixels->bands == 1; i++)
            grey[i] = rgb[3 * i];
        cmsDoTransform(p->transform, pixels->bands == 1 ? grey : rgb, rgb, (cmsUInt32Number)n);
        done += n;
    }
    return true;
}
