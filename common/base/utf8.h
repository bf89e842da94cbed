#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_is_valid(const uint8_t *text, size_t len);
/* As many whole characters of a valid text as fit into `size` bytes with a NUL. */
void utf8_copy(char *out, size_t size, const char *text);
