/* From a model's map, one number per pixel that says how much it is foreground, to alpha. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* `count` numbers, at least one, to as many bytes: 0 background, 255 foreground. */
void mask_from_map(const float *map, size_t count, uint8_t *mask);
