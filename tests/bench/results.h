/* Tells the load client when the result of an upload is stored: it watches the folder of a file
 * store (inotify, no polling) for `<id>.<format>.json`. Used by one thread. */
#ifndef DARKROOM_BENCH_RESULTS_H
#define DARKROOM_BENCH_RESULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RESULTS_ID_LEN = 64, RESULTS_MAX = 1 << 17 };

struct results {
    int fd; /* readable: call results_read */
    struct result *slots;
    size_t count;
};

/* dies if the folder cannot be watched */
void results_open(struct results *results, const char *folder);
void results_close(struct results *results);

/* The reply to an upload is there, with this id. True when its result is stored already;
 * otherwise `tag` comes back from results_read. */
bool results_expect(struct results *results, const char *id, uint64_t tag);

/* Read what has happened; `stored` is called for every awaited result. */
void results_read(struct results *results, void (*stored)(void *ctx, uint64_t tag), void *ctx);

#endif
