/* Files of the repository in the program. */
#pragma once

#include <stdint.h>

/* Put a file (path from the repository's root) into the program as a C string `symbol`. */
#define EMBED_FILE(symbol, path)                                                                   \
    __asm__(".section .rodata\n" #symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n");         \
    extern const char symbol[]

/* The same for bytes that are not text: there are `symbol`_size of them. */
#define EMBED_BYTES(symbol, path)                                                                  \
    __asm__(".section .rodata\n" #symbol ":\n.incbin \"" path "\"\n" #symbol                       \
            "_end:\n.balign 8\n" #symbol "_size:\n.quad " #symbol "_end - " #symbol                \
            "\n.previous\n");                                                                      \
    extern const uint8_t symbol[];                                                                 \
    extern const uint64_t symbol##_size
