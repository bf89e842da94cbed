/* What floors are made of, and how they are measured: the same step over and over on N threads,
 * each with its own state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { FLOOR_THREADS_MAX = 256, FLOOR_STEPS_MAX = 2 };

struct floor_step {
    void *(*begin)(const void *ctx, int index); /* a thread's state */
    void (*step)(void *state, size_t i);        /* dies when it fails */
    void (*end)(void *state);
    const void *ctx;
};

struct floor_loop {
    const char *name;
    int threads;
    double seconds; /* after a tenth of it as a warm-up */
    /* one after the other; those without `step` are none */
    struct floor_step steps[FLOOR_STEPS_MAX];
};

/* Run it and print one JSON object on a line. */
void floor_loop_run(const struct floor_loop *loop);

/* ---- the steps of `floor`; each is opened once, and dies when it cannot be ---- */

/* JPEG in, JPEG out, by hand, encoded like a given file (its quantisation tables, sampling and kind
 * of Huffman tables): one that the service has stored. `tensor`: a 224 x 224 tensor out, as
 * common/image/ops/tensor.c samples it. */
struct floor_step floor_codec_step(bool tensor, const char *like, char *const *paths, size_t count);

/* What makes an upload durable, through the services' own store and outbox: one object put, one
 * event committed (grouped with those of the other threads), or one after the other. */
struct floor_step floor_durable_step(bool put, bool commit, const char *folder,
                                     size_t object_bytes);
void floor_durable_close(void); /* when it was opened */

/* ONNX Runtime and nothing else, on tensors that are ready, with the options of
 * common/model/model.c: one session, one thread a Run. `mask`: a model that finds masks. */
struct floor_step floor_model_step(const char *manifest, bool mask);
