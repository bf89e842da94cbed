/* Width and height from the first bytes of a picture that this program wrote, without any codec. */
#pragma once

#include "base/bytes.h"
#include "image/image.h"

enum { DIMENSIONS_BYTES = 4096 }; /* so many are enough: no metadata is in our pictures */

/* False when they are not there. */
bool dimensions_read(struct bytes head, enum image_format format, int *width, int *height);
