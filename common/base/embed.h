/* Files of the repository in the program. */
#pragma once

/* Put a file (path from the repository's root) into the program as a C string `symbol`. */
#define EMBED_FILE(symbol, path)                                                                   \
    __asm__(".section .rodata\n" #symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n");         \
    extern const char symbol[]
