/* The model behind remove_background: loaded by the first request that needs it, then shared by all
 * workers. */
#ifndef DARKROOM_PREPROCESS_BACKGROUND_H
#define DARKROOM_PREPROCESS_BACKGROUND_H

#include "base/stages.h"
#include "workers/image_job.h"

struct background;

/* `manifest_path` is borrowed; nothing is read yet. */
struct background *background_new(const char *manifest_path);
void background_free(struct background *background);

/* One picture's mask. */
struct mask_search {
    const struct model *model;
    struct stages *stages; /* may be NULL */
    struct mask_finder finder;
};
/* Make *ret ready for one picture, loading the model if need be; for a worker's thread.
 * ERROR_NOT_IMPLEMENTED: there is no model. It is looked for again by the next call. */
bool background_begin(struct background *background, struct stages *stages, struct mask_search *ret,
                      struct error *err) NODISCARD;

#endif
