#include "background.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/xmalloc.h"
#include "model/mask.h"
#include "model/model.h"

#include <pthread.h>

struct background {
    const char *manifest_path;
    pthread_mutex_t mutex; /* whoever comes while it is loaded waits */
    struct model *model;
};

struct background *background_new(const char *manifest_path)
{
    struct background *b = xcalloc(1, sizeof(*b));

    b->manifest_path = manifest_path;
    pthread_mutex_init(&b->mutex, NULL);
    return b;
}

void background_free(struct background *b)
{
    if (b == NULL)
        return;
    model_free(b->model);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

static const struct model *need_model(struct background *b)
{
    struct error err = {0};

    pthread_mutex_lock(&b->mutex);
    if (b->model == NULL) {
        b->model = model_open(b->manifest_path, MANIFEST_MASK, &err);
        if (b->model == NULL)
            log_error("remove_background: the model cannot be loaded",
                      F("error", (const char *)err.message));
    }
    const struct model *model = b->model;
    pthread_mutex_unlock(&b->mutex);
    return model;
}

static bool find(void *context, const uint8_t *rgb, uint8_t *alpha, struct error *err)
{
    const struct mask_search *search = context;
    const struct manifest *manifest = model_manifest(search->model);
    double started = clock_monotonic_s();
    struct model_tensors *tensors = model_tensors_new(search->model, err);
    const float *map = NULL;

    if (tensors == NULL)
        return false;
    image_tensor_fill(rgb, &manifest->input, model_input(tensors));
    bool ok = model_run(search->model, tensors, &map, err);
    if (ok)
        mask_from_map(map, manifest_output_count(manifest), alpha);
    model_tensors_free(tensors);
    stage_took(search->stages, STAGE_INFER, clock_monotonic_s() - started);
    return ok;
}

bool background_begin(struct background *b, struct stages *stages, struct mask_search *ret,
                      struct error *err)
{
    *ret = (struct mask_search){.model = need_model(b), .stages = stages};
    if (ret->model == NULL)
        return error_set(err, ERROR_NOT_IMPLEMENTED,
                         "remove_background: this server has no model for it; `make model` gets "
                         "it, and the server's log says what is missing");
    const struct image_tensor_spec *in = &model_manifest(ret->model)->input;
    ret->finder = (struct mask_finder){{in->width, in->height}, find, ret};
    return true;
}
