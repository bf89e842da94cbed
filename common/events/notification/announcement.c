#include "events/notification/announcement.h"

#include "base/strings.h"
#include "base/xmalloc.h"

#include <string.h>

static void announcement_done(struct announcement *event)
{
    free(event->uri);
    free(event->source);
    free(event->id);
    free(event->origin);
    free(event->traceparent);
    *event = (struct announcement){0};
}

void notification_done(struct notification *notification)
{
    for (size_t i = 0; i < notification->count; i++)
        announcement_done(&notification->events[i]);
    free(notification->events);
    *notification = (struct notification){0};
}

static bool copy(const char *text, char **ret, struct error *err)
{
    if (text == NULL)
        text = "";
    if (!string_is_utf8(bytes_from_str(text)))
        return error_set(err, ERROR_BAD_REQUEST, "the event's text is not UTF-8");
    *ret = strdup(text);
    return *ret != NULL || error_oom(err);
}

bool notification_add(struct notification *notification, const struct announced *event,
                      struct error *err)
{
    size_t count = notification->count;

    notification->events =
        xreallocarray(notification->events, count + 1, sizeof(*notification->events));
    struct announcement *added = &notification->events[count];
    *added = (struct announcement){.flaw = event->flaw};
    if ((event->uri == NULL || copy(event->uri, &added->uri, err)) &&
        copy(event->source, &added->source, err) && copy(event->id, &added->id, err) &&
        copy(event->origin, &added->origin, err) &&
        copy(event->traceparent, &added->traceparent, err)) {
        notification->count++;
        return true;
    }
    announcement_done(added);
    return false;
}
