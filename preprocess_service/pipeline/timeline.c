#include "timeline.h"

#include "base/utf8.h"

#include <string.h>

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

void timeline_look(struct timeline *timeline, const struct task *task, struct timeline_view *ret)
{
    pthread_mutex_lock(&timeline->mutex);
    *ret = timeline->view;
    pthread_mutex_unlock(&timeline->mutex);
    if (task == NULL)
        return;
    for (size_t i = 0; i < ret->count; i++)
        if (strcmp(ret->pictures[i].id, task->id) == 0)
            return;
    add(ret, task);
}
