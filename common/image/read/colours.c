/* Colour profiles by lcms2. Photographs of a source have the same one, and making a transform takes
 * several times as long as using it on a small picture (measured: 0.2 ms, from CMYK 40 ms), so a
 * thread keeps the last few. */
#include "image/read/colours.h"

#include "image/private.h"

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

static cmsHTRANSFORM to_srgb(cmsContext context, cmsHPROFILE in, struct colours_kind kind)
{
    static const struct {
        cmsColorSpaceSignature space;
        cmsUInt32Number pixel;
    } spaces[] = {[1] = {cmsSigGrayData, COLORSPACE_SH(PT_GRAY) | CHANNELS_SH(1)},
                  [3] = {cmsSigRgbData, COLORSPACE_SH(PT_RGB) | CHANNELS_SH(3)},
                  [4] = {cmsSigCmykData, COLORSPACE_SH(PT_CMYK) | CHANNELS_SH(4)}};

    if ((size_t)kind.bands >= ARRAY_SIZE(spaces))
        return NULL;
    cmsUInt32Number pixel = spaces[kind.bands].pixel | BYTES_SH((cmsUInt32Number)kind.bits / 8);
    cmsHTRANSFORM transform = NULL;
    cmsHPROFILE out = cmsCreate_sRGBProfileTHR(context);

    if (out != NULL && cmsGetColorSpace(in) == spaces[kind.bands].space)
        transform = cmsCreateTransformTHR(context, in, pixel, out, TYPE_RGB_8,
                                          INTENT_RELATIVE_COLORIMETRIC, 0);
    if (out != NULL)
        cmsCloseProfile(out);
    return transform;
}

/* NULL: the profile is broken, or for other pixels. */
static cmsHTRANSFORM make_transform(cmsContext context, struct bytes profile,
                                    struct colours_kind kind)
{
    cmsHPROFILE in = NULL;
    cmsHTRANSFORM transform = NULL;
    VipsBlob *own = NULL;

    if (profile.len == 0) {
        if (vips_profile_load("cmyk", &own, NULL) != 0 || own == NULL)
            return NULL;
        profile = bytes_of(VIPS_AREA(own)->data, VIPS_AREA(own)->length);
    }
    if (profile.len <= UINT32_MAX)
        in = cmsOpenProfileFromMemTHR(context, profile.data, (cmsUInt32Number)profile.len);
    if (in != NULL) {
        transform = to_srgb(context, in, kind);
        cmsCloseProfile(in);
    }
    if (own != NULL)
        vips_area_unref(VIPS_AREA(own));
    return transform;
}

/* In the place of the oldest one. */
static struct colour_profile *keep(struct colours *c, struct bytes profile,
                                   struct colours_kind kind, struct error *err)
{
    struct colour_profile *p = &c->kept[c->next];

    if (c->context == NULL)
        c->context = cmsCreateContext(NULL, NULL);
    profile_done(p);
    if (c->context == NULL || !scratch_buffer_need(&p->data, profile.len, err)) {
        (void)error_oom(err);
        return NULL;
    }
    if (profile.len > 0)
        memcpy(p->data.data, profile.data, profile.len);
    p->len = profile.len;
    p->kind = kind;
    p->transform = make_transform(c->context, profile, kind);
    c->next = (c->next + 1) % COLOURS_KEPT;
    return p;
}

bool colours_find(struct colours *c, struct bytes profile, struct colours_kind kind, void **ret,
                  struct error *err)
{
    struct colour_profile *p = NULL;

    for (size_t i = 0; i < COLOURS_KEPT && p == NULL; i++) {
        struct colour_profile *k = &c->kept[i];

        if (k->kind.bands == kind.bands && k->kind.bits == kind.bits &&
            bytes_equal(bytes_of(k->data.data, k->len), profile))
            p = k;
    }
    if (p == NULL)
        p = keep(c, profile, kind, err);
    if (p == NULL)
        return false;
    *ret = p->transform;
    return true;
}

void colours_apply(void *transform, const void *from, uint8_t *rgb, size_t count)
{
    cmsDoTransform(transform, from, rgb, (cmsUInt32Number)count);
}

bool colours_to_srgb(struct colours *c, struct bytes profile, struct colours_pixels *pixels,
                     struct error *err)
{
    void *transform;

    if (profile.len == 0 || (pixels->bands == 3 && icc_is_srgb(profile)))
        return true;
    if (!colours_find(c, profile, (struct colours_kind){pixels->bands, 8}, &transform, err))
        return false;
    if (transform == NULL)
        return true;
    for (size_t done = 0; done < pixels->count;) {
        enum { STEP = 4096 };
        uint8_t grey[STEP], *rgb = pixels->rgb + 3 * done;
        size_t n = pixels->count - done < STEP ? pixels->count - done : STEP;

        for (size_t i = 0; i < n && pixels->bands == 1; i++)
            grey[i] = rgb[3 * i];
        colours_apply(transform, pixels->bands == 1 ? grey : rgb, rgb, n);
        done += n;
    }
    return true;
}
