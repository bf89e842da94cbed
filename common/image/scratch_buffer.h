/* Memory that is used again from image to image. What it held is lost with the next
 * scratch_buffer_need. All zero: empty. */
#pragma once

#include "base/error.h"

#include <stdint.h>

struct scratch_buffer {
    uint8_t *data;
    size_t size;
};

/* At least `size` bytes. ERROR_OVERLOADED without memory. */
bool scratch_buffer_need(struct scratch_buffer *s, size_t size, struct error *err) NODISCARD;
void scratch_buffer_done(struct scratch_buffer *s);
/* Free it when it is larger than that. */
void scratch_buffer_trim(struct scratch_buffer *s, size_t keep_bytes);
