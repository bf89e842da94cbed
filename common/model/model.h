/* A classifier, or a model that finds a picture's foreground: one ONNX Runtime session (no other
 * file includes ONNX Runtime), shared by all workers; each runs it on tensors of its own.
 *
 * ONNX Runtime is loaded by the first model_open: programs are not linked to it. */
#pragma once

#include "model/manifest.h"

struct model;
struct model_tensors;

/* Load what a manifest of this kind names. ERROR_CONFIG: manifest wrong, file missing, its sha256
 * different, its input or output not as the manifest says, or no ONNX Runtime. */
struct model *model_open(const char *manifest_path, enum manifest_kind kind,
                         struct error *err) NODISCARD;
void model_free(struct model *model);

const struct manifest *model_manifest(const struct model *model);

/* One worker's input and output. Not to be shared between threads. */
struct model_tensors *model_tensors_new(const struct model *model, struct error *err) NODISCARD;
void model_tensors_free(struct model_tensors *tensors);

/* The input to fill: 3 x height x width floats, laid out as the manifest says. */
float *model_input(struct model_tensors *tensors);
/* Run on the input. On true *scores points at one probability per label, or at one number per
 * pixel, rows from the top; valid until the next run. ERROR_INTERNAL. Thread-safe with different
 * tensors.
 */
bool model_run(const struct model *model, struct model_tensors *tensors, const float **scores,
               struct error *err) NODISCARD;
