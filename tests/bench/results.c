#include "load.h"

#include "program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { TABLE = 2 * RESULTS_MAX };

struct result {
    char id[RESULTS_ID_LEN]; /* first byte 0: free */
    bool stored, replied;
    uint64_t tag;
};

void results_open(struct results *r, const char *folder)
{
    *r = (struct results){.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
    r->slots = calloc(TABLE, sizeof(*r->slots));
    if (r->slots == NULL || r->fd < 0 ||
        inotify_add_watch(r->fd, folder, IN_CREATE | IN_MOVED_TO) < 0)
        die("%s: cannot be watched: %s", folder, strerror(errno));
}

void results_close(struct results *r)
{
    close(r->fd);
    free(r->slots);
}

/* ids are hashes: any of their digits will do */
static struct result *slot_of(struct results *r, const char *id)
{
    char digits[9];
    size_t i;

    memcpy(digits, id, 8);
    digits[8] = '\0';
    i = strtoul(digits, NULL, 16) % TABLE;
    while (r->slots[i].id[0] != '\0') {
        if (memcmp(r->slots[i].id, id, RESULTS_ID_LEN) == 0)
            return &r->slots[i];
        i = (i + 1) % TABLE;
    }
    if (++r->count > RESULTS_MAX)
        die("more than %d results", RESULTS_MAX);
    memcpy(r->slots[i].id, id, RESULTS_ID_LEN);
    return &r->slots[i];
}

bool results_expect(struct results *r, const char *id, uint64_t tag)
{
    struct result *slot = slot_of(r, id);

    slot->replied = true;
    slot->tag = tag;
    return slot->stored;
}

static bool is_result(const char *name)
{
    size_t len = strlen(name);

    return len > RESULTS_ID_LEN + 5 && strcmp(name + len - 5, ".json") == 0;
}

void results_read(struct results *r, void (*stored)(void *ctx, uint64_t tag), void *ctx)
{
    _Alignas(struct inotify_event) char buffer[16384];
    ssize_t n;

    while ((n = read(r->fd, buffer, sizeof(buffer))) > 0) {
        for (const char *p = buffer; p < buffer + n;) {
            const struct inotify_event *event = (const void *)p;

            p += sizeof(*event) + event->len;
            if ((event->mask & IN_Q_OVERFLOW) != 0)
                die("too many files at a time: some results were missed");
            if (event->len == 0 || !is_result(event->name))
                continue;
            struct result *slot = slot_of(r, event->name);
            if (slot->stored)
                continue;
            slot->stored = true;
            if (slot->replied)
                stored(ctx, slot->tag);
        }
    }
}
