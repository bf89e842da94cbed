/* Floor (d): vips_thumbnail_buffer and vips_jpegsave_buffer, as one would use libvips for a
 * thumbnail service. floor-vips THREADS SECONDS QUALITY 444|420 photo... */
#include "floor.h"
#include "program.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <vips/vips.h>
#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
#include <vips/vector.h>
#endif

enum { SIDE = 256 };

struct inputs {
    int count, quality;
    bool subsample;
    struct input {
        uint8_t *data;
        size_t len;
    } * files;
};

static void *begin(const void *ctx, int index)
{
    (void)index;
    return (void *)(uintptr_t)ctx;
}

static void step(void *state, size_t i)
{
    const struct inputs *in = state;
    const struct input *file = &in->files[i % (size_t)in->count];
    VipsImage *image = NULL;
    void *out = NULL;
    size_t len = 0;

    if (vips_thumbnail_buffer(file->data, file->len, &image, SIDE, "height", SIDE, "crop",
                              VIPS_INTERESTING_CENTRE, NULL) != 0 ||
        vips_jpegsave_buffer(image, &out, &len, "Q", in->quality, "subsample_mode",
                             in->subsample ? VIPS_FOREIGN_SUBSAMPLE_ON : VIPS_FOREIGN_SUBSAMPLE_OFF,
                             NULL) != 0)
        die("libvips: %s", vips_error_buffer());
    g_object_unref(image);
    g_free(out);
}

static void end(void *state)
{
    (void)state;
    vips_thread_shutdown();
}

int main(int argc, char **argv)
{
    struct inputs in = {.count = argc - 5};

    if (argc < 6)
        die("usage: floor-vips THREADS SECONDS QUALITY 444|420 photo...");
    setenv("VIPSHOME", "/nonexistent", 1);
    if (vips_init(argv[0]) != 0)
        die("libvips does not start");
    vips_concurrency_set(1);
    vips_cache_set_max(0);
#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
    /* liborc's vectors crash several threads: common/image/read/vips_start.c */
    vips_vector_set_enabled(getenv("BENCH_VIPS_VECTORS") != NULL);
#endif
    in.quality = (int)number_arg("QUALITY", argv[3], 1, 100);
    in.subsample = strcmp(argv[4], "420") == 0;
    in.files = allocate((size_t)in.count * sizeof(*in.files));
    for (int i = 0; i < in.count; i++) {
        in.files[i].data = file_read(argv[5 + i], &in.files[i].len);
        if (in.files[i].data == NULL)
            return 2;
    }
    floor_loop_run(&(struct floor_loop){
        .name = "vips",
        .threads = (int)number_arg("THREADS", argv[1], 1, FLOOR_THREADS_MAX),
        .seconds = seconds_arg("SECONDS", argv[2]),
        .steps = {{begin, step, end, &in}},
    });
    return 0;
}
