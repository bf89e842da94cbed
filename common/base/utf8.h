#ifndef DARKROOM_BASE_UTF8_H
#define DARKROOM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_is_valid(const uint8_t *text, size_t len);

#endif
