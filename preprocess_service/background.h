/* The model behind remove_background: loaded by the request that needs it, shared by all workers,
 * and let go when none needed it for 10 s. The pool decides how many use it at a time (scarce_max):
 * the first takes some 160 MB, each other one 80 more. */
#pragma once

#include "base/stages.h"
#include "workers/image_job.h"

struct background;

/* `manifest_path` is borrowed; nothing is read yet. */
struct background *background_new(const char *manifest_path);
void background_free(struct background *background);

/* One picture's mask. */
struct mask_search {
    struct background *background;
    const struct model *model;
    struct stages *stages; /* may be NULL */
    struct mask_finder finder;
};
/* Make *ret ready for one picture, loading the model if need be; for a worker's thread.
 * ERROR_NOT_IMPLEMENTED: there is no model. It is looked for again by the next call. */
bool background_begin(struct background *background, struct stages *stages, struct mask_search *ret,
                      struct error *err) NODISCARD;
/* After each that began; of one that did not, or is all zero, nothing. */
void background_end(struct mask_search *search);
