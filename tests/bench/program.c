#include "program.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

uint8_t *file_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "re");
    uint8_t *data = NULL;
    struct stat st;

    if (f != NULL && fstat(fileno(f), &st) == 0) {
        data = allocate((size_t)st.st_size + 1);
        *len = fread(data, 1, (size_t)st.st_size, f);
        data[*len] = '\0';
    } else {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    }
    if (f != NULL)
        fclose(f);
    return data;
}

void die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

long number_arg(const char *name, const char *text, long min, long max)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value < min || value > max)
        die("%s: %s is no number from %ld to %ld", name, text, min, max);
    return value;
}

double seconds_arg(const char *name, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || !(value >= 0 && value <= 3600))
        die("%s: %s is no number of seconds", name, text);
    return value;
}

void *allocate(size_t size)
{
    void *p = malloc(size);

    if (p == NULL)
        die("out of memory");
    return p;
}
