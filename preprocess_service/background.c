#include "background.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "model/model.h"
#include "model/outputs.h"

#include <malloc.h>

enum { IDLE_MS = 10000 }; /* loading takes 70 ms, so a picture a minute is no slower than this */

struct background {
    const char *manifest_path;
    pthread_mutex_t mutex; /* whoever comes while the model is loaded waits */
    pthread_cond_t wake;
    struct model *model; /* NULL: not loaded */
    int users;
    int64_t used_ms;  /* when the last one ended */
    pthread_t keeper; /* lets it go; there once the model was loaded */
    bool keeping, stopping;
};

struct background *background_new(const char *manifest_path)
{
    struct background *b = xcalloc(1, sizeof(*b));

    b->manifest_path = manifest_path;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->wake, NULL);
    return b;
}

void background_free(struct background *b)
{
    if (b == NULL)
        return;
    pthread_mutex_lock(&b->mutex);
    b->stopping = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->mutex);
    if (b->keeping)
        pthread_join(b->keeper, NULL);
    model_free(b->model);
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

static void *keep(void *arg)
{
    struct background *b = arg;

    pthread_mutex_lock(&b->mutex);
    while (!b->stopping) {
        int64_t now_ms = clock_monotonic_ms();

        if (b->model != NULL && b->users == 0 && now_ms >= b->used_ms + IDLE_MS) {
            model_free(b->model);
            b->model = NULL;
            malloc_trim(0); /* its many small blocks leave 16 MB of holes */
        }
        /* between two uses: until then; else a look now and then */
        thread_cond_wait(&b->wake, &b->mutex,
                         (b->model != NULL && b->users == 0 ? b->used_ms : now_ms) + IDLE_MS);
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

/* With the mutex held. */
static bool load(struct background *b, struct error *err)
{
    if (!b->keeping && !thread_start(&b->keeper, keep, b, err))
        return false;
    b->keeping = true;
    b->model = model_open(b->manifest_path, MANIFEST_MASK, err);
    return b->model != NULL;
}

static const struct model *take_model(struct background *b)
{
    struct error err = {0};

    pthread_mutex_lock(&b->mutex);
    if (b->model == NULL && !load(b, &err))
        log_error("remove_background: the model cannot be loaded",
                  F("error", (const char *)err.message));
    const struct model *model = b->model;
    b->users += model != NULL;
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
    *ret = (struct mask_search){.background = b, .model = take_model(b), .stages = stages};
    if (ret->model == NULL)
        return error_set(err, ERROR_NOT_IMPLEMENTED,
                         "remove_background: this server has no model for it; `make model` gets "
                         "it, and the server's log says what is missing");
    const struct image_tensor_spec *in = &model_manifest(ret->model)->input;
    ret->finder = (struct mask_finder){{in->width, in->height}, find, ret};
    return true;
}

void background_end(struct mask_search *search)
{
    struct background *b = search->background;

    if (search->model == NULL)
        return;
    pthread_mutex_lock(&b->mutex);
    b->users--;
    b->used_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&b->mutex);
}
