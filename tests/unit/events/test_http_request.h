/* What the scripted HTTP servers of the tests read. */
#ifndef DARKROOM_TEST_HTTP_REQUEST_H
#define DARKROOM_TEST_HTTP_REQUEST_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* One request with its body, a string in `text` of `size` bytes. False: the connection ended. */
static inline bool read_request(int fd, char *text, size_t size)
{
    size_t len = 0;
    const char *end;
    const char *length;

    for (;;) {
        ssize_t n = recv(fd, text + len, size - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
        if ((end = strstr(text, "\r\n\r\n")) != NULL &&
            (length = strcasestr(text, "Content-Length: ")) != NULL &&
            len >= (size_t)(end + 4 - text) + (size_t)atoi(length + 16))
            return true;
    }
}

#endif
