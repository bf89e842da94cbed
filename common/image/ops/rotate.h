#pragma once

#include "image/ops/operations.h"

/* Degrees clockwise, 0 to 359; no multiple of 90. The size of the canvas that the turned picture
 * fits on, and the picture on it: sampled bilinearly, with soft edges. */
struct image_size rotate_any_size(int degrees, struct image_size in);
bool rotate_any(const struct operation_run *run, struct error *err) NODISCARD;
