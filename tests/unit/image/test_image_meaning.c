/* What files say about their pixels beside them: HEIF's boxes, code points, and profiles of these.
 */
#include "test_image_builders.h"

#include <lcms2.h>
#include <string.h>

/* --- HEIF, put together box by box --- */

static void begin_box(struct builder *b, const char *type, size_t *at)
{
    *at = b->len;
    put_number(b, 0, 4, true);
    put(b, type, 4);
}

static void end_box(struct builder *b, size_t at)
{
    uint32_t len = (uint32_t)(b->len - at);

    for (int i = 0; i < 4; i++)
        b->data[at + (size_t)i] = (uint8_t)(len >> (24 - 8 * i));
}

static void put_property(struct builder *b, const char *type, const void *body, size_t len)
{
    size_t at;

    begin_box(b, type, &at);
    put(b, body, len);
    end_box(b, at);
}

#define PROPERTY(b, type, body) put_property(b, type, body, sizeof(body) - 1)

/* Item 7 is primary and has the properties 1 to 3; item 8 has the fourth. */
static void build_heif(struct builder *b, int version)
{
    size_t meta, iprp, box, ref;
    int id = version == 0 ? 2 : 4;

    PROPERTY(b, "ftyp", "avif\0\0\0\0mif1");
    begin_box(b, "meta", &meta);
    put_number(b, 0, 4, true);
    begin_box(b, "pitm", &box);
    put_number(b, (uint64_t)version << 24, 4, true);
    put_number(b, 7, id, true);
    end_box(b, box);
    begin_box(b, "iprp", &iprp);
    begin_box(b, "ipco", &box);
    PROPERTY(b, "colr", "nclx\0\x0c\0\x0d\0\x06\0");
    PROPERTY(b, "pixi", "\0\0\0\0\x01\x08");
    PROPERTY(b, "ispe", "\0\0\0\0\0\0\0\1\0\0\0\1");
    PROPERTY(b, "colr", "prof1234");
    end_box(b, box);
    begin_box(b, "ipma", &box);
    put_number(b, (uint64_t)version << 24 | (unsigned)version, 4, true);
    put_number(b, 2, 4, true);
    for (unsigned item = 7; item <= 8; item++) {
        unsigned first = item == 7 ? 1 : 4, last = item == 7 ? 3 : 4;

        put_number(b, item, id, true);
        put_number(b, last - first + 1, 1, true);
        for (unsigned property = first; property <= last; property++)
            put_number(b, property, version == 0 ? 1 : 2, true);
    }
    end_box(b, box);
    end_box(b, iprp);
    begin_box(b, "iref", &ref);
    put_number(b, (uint64_t)version << 24, 4, true);
    begin_box(b, "prem", &box);
    put_number(b, 7, id, true);
    put_number(b, 1, 2, true);
    put_number(b, 8, id, true);
    end_box(b, box);
    end_box(b, ref);
    end_box(b, meta);
}

TEST(test_heif_item)
{
    for (int version = 0; version < 2; version++) {
        struct builder b = {0};
        struct heif_item item;

        build_heif(&b, version);
        item = heif_item_read(bytes_of(b.data, b.len));
        assert_int_equal(item.cicp.primaries, 12);
        assert_int_equal(item.cicp.transfer, 13);
        assert_true(item.grey && item.narrow && item.premultiplied);
        assert_false(item.profile); /* the other item's */
    }
}

/* Whatever is cut or changed: it returns, and reads nothing outside (AddressSanitizer). */
TEST(test_broken_heif)
{
    struct builder b = {0};

    build_heif(&b, 1);
    for (size_t i = 0; i < b.len; i++) {
        uint8_t *copy = malloc(b.len), byte = b.data[i];

        assert_non_null(copy);
        memcpy(copy, b.data, b.len);
        (void)heif_item_read(bytes_of(copy + b.len - i, i));
        for (int bit = 0; bit < 8; bit++) {
            copy[i] = (uint8_t)(byte ^ 1 << bit);
            (void)heif_item_read(bytes_of(copy, b.len));
        }
        free(copy);
    }
}

/* --- code points --- */

TEST(test_png_cicp)
{
    static const char head[] = "\x89PNG\r\n\x1a\n\0\0\0\0IHDR0000",
                      cicp[] = "\0\0\0\4cICP\x0c\x10\0\0crcc", pixels[] = "\0\0\0\0IDAT0000";
    char file[64], late[64];
    struct cicp c;

    memcpy(file, head, 20);
    memcpy(file + 20, cicp, 16);
    c = png_cicp_read(bytes_of(file, 36));
    assert_true(c.primaries == 12 && c.transfer == 16 && c.narrow);
    assert_int_equal(png_cicp_read(bytes_of(file, 35)).primaries, 0);
    memcpy(late, head, 20);
    memcpy(late + 20, pixels, 12);
    memcpy(late + 32, cicp, 16);
    assert_int_equal(png_cicp_read(bytes_of(late, 48)).primaries, 0);
}

TEST(test_what_differs)
{
    static const struct {
        struct cicp cicp;
        bool differs;
    } cases[] = {
        {{0, 0, false}, false},     {{1, 13, false}, false},  {{2, 2, false}, false},
        {{1, 1, false}, false},     {{1, 13, true}, true},    {{12, 13, false}, true},
        {{9, 14, false}, true},     {{1, 16, false}, true},   {{1, 8, false}, true},
        {{3, 13, false}, false},    {{10, 13, false}, false}, {{255, 255, false}, false},
        {{65535, 7, false}, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(cicp_differs(&cases[i].cicp), cases[i].differs);
}

static void through_profile(const struct cicp *c, bool grey, const uint8_t *in, uint8_t out[3])
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(1 << 20);
    struct error err = {0};
    cmsHPROFILE profile, srgb = cmsCreate_sRGBProfile();
    cmsHTRANSFORM transform;

    assert_true(cicp_profile(c, grey, &data, &err));
    profile = cmsOpenProfileFromMem(data.data, (cmsUInt32Number)data.len);
    assert_non_null(profile);
    transform = cmsCreateTransform(profile, grey ? TYPE_GRAY_8 : TYPE_RGB_8, srgb, TYPE_RGB_8,
                                   INTENT_RELATIVE_COLORIMETRIC, 0);
    assert_non_null(transform);
    cmsDoTransform(transform, in, out, 1);
    cmsDeleteTransform(transform);
    cmsCloseProfile(profile);
    cmsCloseProfile(srgb);
}

/* Known pairs: what was (234, 51, 35) in Display P3 is sRGB's red; half of linear light is 188;
 * narrow grey; PQ's 58 % is 203 cd/m2 (BT.2408), which leaves 52 % of the light. */
TEST(test_profiles)
{
    static const struct {
        struct cicp cicp;
        bool grey;
        uint8_t in[3], out[3];
    } cases[] = {
        {{12, 13, false}, false, {234, 51, 35}, {255, 0, 0}},
        {{1, 8, false}, false, {128, 128, 128}, {188, 188, 188}},
        {{1, 13, true}, true, {16}, {0, 0, 0}},
        {{1, 13, true}, true, {235}, {255, 255, 255}},
        {{1, 13, true}, false, {126, 126, 126}, {128, 128, 128}},
        {{9, 16, false}, false, {148, 148, 148}, {191, 191, 191}},
        {{9, 16, false}, false, {255, 255, 255}, {255, 255, 255}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t out[3];

        through_profile(&cases[i].cicp, cases[i].grey, cases[i].in, out);
        for (int k = 0; k < 3; k++)
            assert_in_range(out[k] + 3, cases[i].out[k], cases[i].out[k] + 6);
    }
}

TEST_MAIN(NULL, NULL)
