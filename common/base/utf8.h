/* string_is_utf8, for error.c, which is below strings. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_is_valid(const uint8_t *text, size_t len);
