/* When each stage of the last pictures ran: what the plot shows. Thread-safe. */
#pragma once

#include "task.h"

#include <pthread.h>

enum { TIMELINE_PICTURES = 32 };

struct timeline_picture {
    char id[UUID_LEN + 1];
    char file_name[TASK_TEXT_MAX];
    double accepted_s;
    struct task_span spans[PIPELINE_STAGES];
};

/* Zeroed: empty. In the order of completion, the oldest first. */
struct timeline_view {
    size_t count;
    struct timeline_picture pictures[TIMELINE_PICTURES];
};

struct timeline {
    pthread_mutex_t mutex; /* PTHREAD_MUTEX_INITIALIZER */
    struct timeline_view view;
};

/* Add a picture that is done; the oldest goes when there are too many. */
void timeline_add(struct timeline *timeline, const struct task *task);
/* What there is since the last pause of ten minutes, which would make all bars lines; with `task`,
 * which may be NULL, in it: of an earlier process, or one that is not among the last any more. */
void timeline_look(struct timeline *timeline, const struct task *task, struct timeline_view *ret);

/* The timeline as a picture, drawn by cairo, which is loaded when it is first needed: linked, it
 * would bring 19 libraries to every start. Thread-safe. CPU work: for a worker. */
enum plot_format { PLOT_PNG, PLOT_SVG };

/* Appended to out. ERROR_INTERNAL: there is no cairo; ERROR_TOO_LARGE, ERROR_OVERLOADED. */
bool plot_draw(const struct timeline_view *view, enum plot_format format, struct buffer *out,
               struct error *err) NODISCARD;
