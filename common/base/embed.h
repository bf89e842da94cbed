/* Files of the repository in the program. */
#ifndef DARKROOM_BASE_EMBED_H
#define DARKROOM_BASE_EMBED_H

/* Put a file (path from the repository's root) into the program as a C string `symbol`. */
#define EMBED_FILE(symbol, path)                                                                   \
    __asm__(".section .rodata\n" #symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n");         \
    extern const char symbol[]

#endif
