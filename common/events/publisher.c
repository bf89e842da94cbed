#include "events/publisher.h"

#include "base/json.h"
#include "base/xmalloc.h"

bool event_data(const char *gcs_path, const char *id, struct buffer *out, struct error *err)
{
    return json_append(json_pack("{s:s, s:s}", "gcs_path", gcs_path, "id", id), out, err);
}

static bool none_publish(struct publisher *self, const struct event *event, int64_t deadline_ms,
                         char message_id[MESSAGE_ID_MAX], struct error *err)
{
    (void)self;
    (void)event;
    (void)deadline_ms;
    (void)err;
    message_id[0] = '\0';
    return true;
}

static void none_stop(struct publisher *self, int64_t deadline_ms)
{
    (void)self;
    (void)deadline_ms;
}

static void none_free(struct publisher *self)
{
    free(self);
}

struct publisher *publisher_none_new(void)
{
    struct publisher *publisher = xmalloc(sizeof(*publisher));

    *publisher = (struct publisher){none_publish, none_stop, none_free};
    return publisher;
}
