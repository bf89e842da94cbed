#include "app/open_publisher.h"

#include "base/strings.h"
#include "base/xmalloc.h"
#include "client/google_token.h"

#include <string.h>

enum { PROJECT_WAIT_MS = 5000, PROJECT_MAX = 256 };

/* https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys */
static bool ask_project(const struct settings *s, struct http_client *client,
                        struct buffer *project, struct error *err)
{
    static const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    const char *host = *s->gce_metadata_host != '\0' ? s->gce_metadata_host : GOOGLE_METADATA_HOST;
    CLEANUP_FREE char *url = xasprintf("http://%s/computeMetadata/v1/project/project-id", host);
    char flavor[16];

    if (!http_client_call(client,
                          &(struct http_call){
                              .method = "GET",
                              .url = url,
                              .headers = headers,
                              .deadline_ms = clock_monotonic_ms() + PROJECT_WAIT_MS,
                              .max_reply_bytes = PROJECT_MAX,
                          },
                          &reply, err))
        return false;
    if (reply.status != 200 ||
        !http_reply_header(&reply, "metadata-flavor", flavor, sizeof(flavor)))
        return error_set(err, ERROR_CONFIG, "%s answers %ld and is no metadata server", host,
                         reply.status);
    const struct bytes id = buffer_view(&reply.body);
    for (size_t i = 0; i < id.len; i++)
        if (id.data[i] == '\0' ||
            strchr("abcdefghijklmnopqrstuvwxyz0123456789-.:", id.data[i]) == NULL)
            return error_set(err, ERROR_CONFIG, "%s names no project", host);
    return id.len > 0 ? buffer_append(project, id.data, id.len, err)
                      : error_set(err, ERROR_CONFIG, "%s names no project", host);
}

/* "T" and "projects/P/topics/T" are both the topic. */
static bool resolve_name(const struct settings *s, const char *name, struct topic *topic,
                         struct error *err)
{
    CLEANUP(buffer_done) struct buffer project = BUFFER_MAX(PROJECT_MAX);

    if (string_starts_with(name, "projects/")) {
        topic->name = xstrdup(name);
        return true;
    }
    if (*s->google_cloud_project != '\0') {
        if (!buffer_append_str(&project, s->google_cloud_project, err))
            return false;
    } else if (!ask_project(s, topic->options.client, &project, err)) {
        err->code = ERROR_CONFIG;
        return error_wrap(err,
                          "the project of topic %.100s is not known: GOOGLE_CLOUD_PROJECT is "
                          "not set, and the metadata server does not tell",
                          name);
    }
    topic->name =
        xasprintf("projects/%.*s/topics/%s", (int)project.len, (const char *)project.data, name);
    return true;
}

bool topic_open(const struct settings *s, const char *name, const struct outgoing *outgoing,
                struct topic *ret, struct error *err)
{
    const bool emulator = *s->pubsub_emulator_host != '\0';

    *ret = (struct topic){
        .options =
            {
                .endpoint = emulator ? s->pubsub_emulator_host : s->pubsub_endpoint,
                .client = outgoing->client,
                .cut = outgoing->cut,
                .bearer = emulator ? NULL : outgoing->google,
            },
    };
    if (!resolve_name(s, name, ret, err))
        return false;
    ret->options.topic = ret->name;
    return true;
}

void topic_done(struct topic *topic)
{
    free(topic->name);
    *topic = (struct topic){0};
}
