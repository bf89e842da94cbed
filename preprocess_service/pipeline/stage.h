/* The stages of the older pipeline, each a picture in and a picture out; the last one gives the
 * label instead. A stage is done here, or elsewhere: by REST (UPLOADER_URL, NOISE_URL,
 * BACKGROUND_URL, CLASSIFIER_URL) or by gRPC (UPLOADER_ADDR, …). */
#pragma once

#include "../app.h"
#include "base/context.h"

enum pipeline_stage {
    PIPELINE_UPLOAD,
    PIPELINE_REDUCE,
    PIPELINE_REMOVE,
    PIPELINE_CLASSIFY,
    PIPELINE_STAGES,
};

/* As the plot names it: "Uploader". */
const char *stage_name(enum pipeline_stage stage);
/* Where it is done. */
struct stage_place {
    const char *where; /* NULL: here; a URL; with `grpc`, host:port */
    bool grpc;
};
struct stage_place stage_place(const struct settings *settings, enum pipeline_stage stage);

enum { STAGE_LABEL_MAX = 256 };

struct stage_work {
    const char *file_name;
    struct buffer picture; /* replaced by what the stage makes of it */
    char label[STAGE_LABEL_MAX];
};

static inline void stage_work_done(struct stage_work *work)
{
    buffer_done(&work->picture);
}

/* Do a stage here, any but the last. Errors of transform_image. */
bool stage_run_here(const struct app *app, const struct context *ctx, enum pipeline_stage stage,
                    struct stage_work *work, struct error *err) NODISCARD;
/* Do it at that place; the request and as much for the reply are charged to the context's budget.
 * ERROR_UNAVAILABLE: worth another attempt (no connection; 408, 429, 5xx; see grpc/remote.h).
 * ERROR_OVERLOADED: no room now. ERROR_BAD_REQUEST: refused, with the reason; or a reply that is
 * not a stage's. */
bool stage_run_at(const struct app *app, const struct context *ctx, enum pipeline_stage stage,
                  const struct stage_place *place, struct stage_work *work,
                  struct error *err) NODISCARD;
