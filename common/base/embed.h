/* Files of the repository in the program. */
#pragma once

#include <stdint.h>

/* Put a file (path from the repository's root) into the program as a C string `symbol`. */
#define EMBED_FILE(symbol, path)                                                                   \
    __asm__(".section .rodata\n" #symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n");         \
    extern const char symbol[]

/* The same for bytes that are no text: they end at `symbol`_end. */
#define EMBED_BYTES(symbol, path)                                                                  \
    __asm__(".section .rodata\n" #symbol ":\n.incbin \"" path "\"\n" #symbol                       \
            "_end:\n.byte 0\n.previous\n");                                                        \
    extern const uint8_t symbol[], symbol##_end[]
