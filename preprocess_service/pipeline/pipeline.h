/* The older pipeline: a picture goes through upload, noise reduction, background removal and
 * classification, while its sender asks now and then how far it is. Thread-safe.
 *
 * A task is in the store before its sender gets its id. Whatever ends this process, the id is
 * answered: done, or failed with a reason. */
#pragma once

#include "timeline.h"

struct pipeline;

enum { PIPELINE_TASK_MAX_MS = 600000 }; /* of a task, from its acceptance */

/* `app` is borrowed: its settings, store, pool, client and budget. */
struct pipeline *pipeline_new(struct app *app) NODISCARD;
/* Fail what waits, wait for what runs: no longer than the deadlines of the pool and of calls that
 * have been cut allow. */
void pipeline_stop(struct pipeline *pipeline);
void pipeline_free(struct pipeline *pipeline);

/* Take a picture; its task's id into `id`. Its bytes and their charge become the pipeline's and are
 * zeroed; on failure they stay the caller's. ERROR_OVERLOADED: QUEUE_MAX tasks have not ended.
 * Errors of store_put. */
struct pipeline_upload {
    const char *file_name; /* UTF-8 */
    struct buffer *picture;
    int64_t *charged; /* bytes of the service's budget */
};
bool pipeline_accept(struct pipeline *pipeline, const struct context *ctx,
                     const struct pipeline_upload *upload, char id[UUID_LEN + 1],
                     struct error *err) NODISCARD;

/* All stages of a picture now, while its sender waits: no record is stored. True: *ret is done, and
 * *picture the caller's; or failed, and says why. upload->picture becomes the pipeline's; its
 * charge stays the caller's. ERROR_OVERLOADED: QUEUE_MAX tasks have not ended. ERROR_SHUTTING_DOWN.
 */
bool pipeline_run(struct pipeline *pipeline, const struct context *ctx,
                  const struct pipeline_upload *upload, struct task *ret, struct buffer *picture,
                  struct error *err) NODISCARD;

/* How a task stands. ERROR_NOT_FOUND: this id was never given out. Errors of store_get. */
bool pipeline_look(struct pipeline *pipeline, const struct context *ctx, const char *id,
                   struct task *ret, struct error *err) NODISCARD;

/* The plot of the last pictures, and of `task` (may be NULL), drawn by a worker. Errors of
 * worker_pool_run and plot_draw. */
bool pipeline_plot(struct pipeline *pipeline, const struct context *ctx, const struct task *task,
                   enum plot_format format, struct buffer *out, struct error *err) NODISCARD;

/* Tasks that have not ended. */
int pipeline_tasks(struct pipeline *pipeline);
