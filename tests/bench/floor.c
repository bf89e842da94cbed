/* The floors that are loops of our own (README.md), alone, and one after the other in one loop,
 * where each finds the caches as the other left them.
 *
 *     floor jpeg THREADS SECONDS LIKE photo...
 *     floor tensor THREADS SECONDS LIKE photo...
 *     floor put|commit|both THREADS SECONDS FOLDER BYTES
 *     floor model|mask THREADS SECONDS MANIFEST
 *     floor jpeg+both THREADS SECONDS FOLDER BYTES LIKE photo...
 *     floor tensor+model THREADS SECONDS MANIFEST LIKE photo... */
#include "floor.h"
#include "program.h"

#include <string.h>

enum { OBJECT_BYTES_MAX = 100000000 };

static char **rest; /* of the arguments */

static char *next(const char *name)
{
    if (*rest == NULL)
        die("%s is missing", name);
    return *rest++;
}

static struct floor_step codec(bool tensor)
{
    const char *like = next("LIKE");
    char **paths = rest;

    while (*rest != NULL)
        rest++;
    if (rest == paths)
        die("photographs are missing");
    return floor_codec_step(tensor, like, paths, (size_t)(rest - paths));
}

static struct floor_step durable(bool put, bool commit)
{
    const char *folder = next("FOLDER");
    size_t bytes = (size_t)number_arg("BYTES", next("BYTES"), 1, OBJECT_BYTES_MAX);

    return floor_durable_step(put, commit, folder, bytes);
}

static struct floor_step one(const char *kind)
{
    if (strcmp(kind, "jpeg") == 0 || strcmp(kind, "tensor") == 0)
        return codec(*kind == 't');
    if (strcmp(kind, "put") == 0 || strcmp(kind, "commit") == 0 || strcmp(kind, "both") == 0)
        return durable(*kind != 'c', *kind != 'p');
    if (strcmp(kind, "model") == 0)
        return floor_model_step(next("MANIFEST"), false);
    if (strcmp(kind, "mask") == 0)
        return floor_model_step(next("MANIFEST"), true);
    die("%s: no such floor", kind);
}

int main(int argc, char **argv)
{
    struct floor_loop loop = {0};

    (void)argc;
    rest = argv + 1;
    loop.name = next("a floor");
    loop.threads = (int)number_arg("THREADS", next("THREADS"), 1, FLOOR_THREADS_MAX);
    loop.seconds = seconds_arg("SECONDS", next("SECONDS"));
    if (strcmp(loop.name, "jpeg+both") == 0) { /* files come last */
        loop.steps[1] = one("both");
        loop.steps[0] = one("jpeg");
    } else if (strcmp(loop.name, "tensor+model") == 0) {
        loop.steps[1] = one("model");
        loop.steps[0] = one("tensor");
    } else {
        loop.steps[0] = one(loop.name);
    }
    floor_loop_run(&loop);
    floor_durable_close();
    return 0;
}
