#include "timeline.h"

#include "base/strings.h"

#include <string.h>

enum { PAUSE_S = 600 };

static void add(struct timeline_view *view, const struct task *task)
{
    if (view->count == TIMELINE_PICTURES)
        memmove(&view->pictures[0], &view->pictures[1],
                --view->count * sizeof(struct timeline_picture));
    struct timeline_picture *picture = &view->pictures[view->count++];
    utf8_copy(picture->id, sizeof(picture->id), task->id);
    utf8_copy(picture->file_name, sizeof(picture->file_name), task->file_name);
    picture->accepted_s = task->accepted_s;
    memcpy(picture->spans, task->spans, sizeof(picture->spans));
}

void timeline_add(struct timeline *timeline, const struct task *task)
{
    pthread_mutex_lock(&timeline->mutex);
    add(&timeline->view, task);
    pthread_mutex_unlock(&timeline->mutex);
}

static double end_of(const struct timeline_picture *picture)
{
    double end_s = picture->accepted_s;

    for (size_t i = 0; i < PIPELINE_STAGES; i++)
        end_s = picture->spans[i].end_s > end_s ? picture->spans[i].end_s : end_s;
    return end_s;
}

/* Leave out what had ended long before all that came after it began; not the one at `keep`. */
static void cut_at_pause(struct timeline_view *view, size_t keep)
{
    size_t first = view->count;
    double begin_s = 0;

    while (first > 0 && (first == view->count || first > keep ||
                         end_of(&view->pictures[first - 1]) >= begin_s - PAUSE_S)) {
        double accepted_s = view->pictures[--first].accepted_s;
        begin_s = first + 1 == view->count || accepted_s < begin_s ? accepted_s : begin_s;
    }
    view->count -= first;
    memmove(&view->pictures[0], &view->pictures[first],
            view->count * sizeof(struct timeline_picture));
}

void timeline_look(struct timeline *timeline, const struct task *task, struct timeline_view *ret)
{
    size_t keep = 0;

    pthread_mutex_lock(&timeline->mutex);
    *ret = timeline->view;
    pthread_mutex_unlock(&timeline->mutex);
    while (task != NULL && keep < ret->count && strcmp(ret->pictures[keep].id, task->id) != 0)
        keep++;
    if (task != NULL && keep == ret->count)
        add(ret, task);
    cut_at_pause(ret, task != NULL ? keep : ret->count);
}
