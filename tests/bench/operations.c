/* The operations of common/image/ops on a drawn picture of 2 MP, on one thread.
 * operations NAME VALUE SECONDS, e.g. operations median 5 0.5 */
#include "image/ops/operations.h"
#include "floor.h"
#include "program.h"

#include <string.h>

enum { WIDTH = 1920, HEIGHT = 1080, RGB = 3 };

static void *begin(const void *ctx, int index)
{
    const struct operation_run *what = ctx;
    struct operation_run *run = allocate(sizeof(*run));
    const size_t bytes = (size_t)WIDTH * HEIGHT * RGB;
    uint8_t *picture = allocate(bytes);
    uint32_t noise = 1;

    (void)index;
    *run = *what;
    for (size_t i = 0; i < bytes; i++) {
        noise = noise * 1664525 + 1013904223;
        picture[i] = (uint8_t)((i / 30 & 0x7f) + (noise >> 26));
    }
    run->in = picture;
    run->out = allocate(RGB * (size_t)run->out_size.width * (size_t)run->out_size.height);
    run->work = allocate(sizeof(*run->work));
    *run->work = (struct scratch_buffer){0};
    return run;
}

/* The table is asked as a request asks it. */
static const struct operation *find(const char *name)
{
    const struct operation *const all[] = {&operation_median, &operation_mean, &operation_rotate};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    die("no operation is called %s", name);
}

static const struct operation *operation;

static void step(void *state, size_t i)
{
    struct error err;

    (void)i;
    if (!operation->apply(state, &err))
        die("%s: %s", operation->name, err.message);
}

static void end(void *state)
{
    (void)state; /* the process ends with it */
}

int main(int argc, char **argv)
{
    struct operation_run what = {.size = {WIDTH, HEIGHT}, .bands = RGB, .background = 0xffffff};
    struct error err;

    if (argc != 4)
        die("usage: operations NAME VALUE SECONDS");
    operation = find(argv[1]);
    if (!operation->parse(argv[1], argv[2], &what.value, &err))
        die("%s", err.message);
    what.portable = getenv("BENCH_PORTABLE") != NULL;
    what.out_size = what.size;
    if (operation->size != NULL)
        what.out_size = operation->size(what.value, what.size);
    what.bottom = what.out_size.height;
    floor_loop_run(&(struct floor_loop){
        .name = argv[1],
        .threads = 1,
        .seconds = seconds_arg("SECONDS", argv[3]),
        .steps = {{begin, step, end, &what}},
    });
    return 0;
}
