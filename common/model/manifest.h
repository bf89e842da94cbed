/* A model's manifest: which file, how its input is made, what its output means (models/README.md
 * explains the fields). */
#pragma once

#include "base/strings.h"
#include "image/image.h"

enum { MANIFEST_NAME_MAX = 64, MANIFEST_LABELS_MAX = 100000 };

enum manifest_kind {
    MANIFEST_CLASSIFIER, /* one number a class; the input's centre is cropped */
    MANIFEST_MASK,       /* one number a pixel of the input, which is the whole picture stretched */
};

struct manifest {
    enum manifest_kind kind;
    char name[MANIFEST_NAME_MAX + 1];
    char *file; /* path of the ONNX file; heap */
    char sha256[SHA256_HEX_LEN + 1];
    char *input_tensor, *output_tensor; /* heap */
    struct image_tensor_spec input;
    bool softmax;   /* the output is logits */
    int drop_first; /* leading outputs that are not classes (background) */
    char **labels;  /* of a classifier: one line each, without the dropped ones; heap */
    size_t label_count;
};

/* Read a manifest of this kind and its labels. `file` and the labels' file are relative to the
 * manifest's folder. ERROR_CONFIG names what is wrong. On failure *ret is empty. */
bool manifest_read(const char *path, enum manifest_kind kind, struct manifest *ret,
                   struct error *err) NODISCARD;
void manifest_done(struct manifest *manifest);

/* Floats in the input tensor. */
static inline size_t manifest_input_count(const struct manifest *manifest)
{
    return (size_t)3 * (size_t)manifest->input.height * (size_t)manifest->input.width;
}

/* Floats in the output tensor. */
static inline size_t manifest_output_count(const struct manifest *manifest)
{
    return manifest->kind == MANIFEST_MASK ? manifest_input_count(manifest) / 3
                                           : manifest->label_count + (size_t)manifest->drop_first;
}
