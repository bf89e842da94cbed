/* What the fuzz targets share. A target is one file that defines LLVMFuzzerTestOneInput: it is
 * linked to libFuzzer for `make fuzz`, and to replay.c for `make test`, which feeds it what
 * make_corpus.py writes. Beyond not crashing, a target says with FUZZ_CHECK what must hold for
 * whatever comes in. Targets run in one thread unless they start others. */
#pragma once

#include "base/strings.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Called before the first input where a target has it; 0. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
/* Instead of the plain mutation of data[size], which has room for max_size bytes; the new size. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The next byte, 0 at the end. */
static inline uint8_t fuzz_byte(struct bytes *in)
{
    if (in->len == 0)
        return 0;
    uint8_t byte = *in->data;
    *in = bytes_of(in->data + 1, in->len - 1);
    return byte;
}

/* A C string in a block of its very size, so that AddressSanitizer sees every byte too far; cut at
 * a NUL. The caller frees. */
static inline char *fuzz_text(struct bytes in)
{
    size_t len = in.len > 0 ? strnlen((const char *)in.data, in.len) : 0;
    char *text = malloc(len + 1);

    FUZZ_CHECK(text != NULL);
    if (len > 0)
        memcpy(text, in.data, len);
    text[len] = '\0';
    return text;
}

/* The bytes up to the separator (or the end), which are taken off `in` with it. */
static inline struct bytes fuzz_until(struct bytes *in, const char *separator)
{
    size_t len = strlen(separator);
    const uint8_t *at = in->len > 0 ? memmem(in->data, in->len, separator, len) : NULL;
    size_t n = at != NULL ? (size_t)(at - in->data) : in->len;
    struct bytes ret = bytes_of(in->data, n);
    size_t used = at != NULL ? n + len : n;

    if (used > 0)
        *in = bytes_of(in->data + used, in->len - used);
    return ret;
}

/* The next line as a C string; the caller frees. */
static inline char *fuzz_line(struct bytes *in)
{
    return fuzz_text(fuzz_until(in, "\n"));
}

/* Every failure has a code and says something. */
static inline void fuzz_check_error(const struct error *err)
{
    FUZZ_CHECK(err->code > ERROR_NONE && err->code <= ERROR_CONFIG);
    FUZZ_CHECK(err->message[0] != '\0');
    FUZZ_CHECK(memchr(err->message, '\0', sizeof(err->message)) != NULL);
}

/* A failure, and of one of these kinds. */
#define FUZZ_CHECK_ERROR(err, ...)                                                                 \
    do {                                                                                           \
        const enum error_code allowed_[] = {__VA_ARGS__};                                          \
        bool found_ = false;                                                                       \
        fuzz_check_error(err);                                                                     \
        for (size_t i_ = 0; i_ < ARRAY_SIZE(allowed_); i_++)                                       \
            found_ = found_ || (err)->code == allowed_[i_];                                        \
        if (!found_)                                                                               \
            fprintf(stderr, "%s: %s\n", error_slug((err)->code), (err)->message);                  \
        FUZZ_CHECK(found_);                                                                        \
    } while (0)

/* "name=value" or "Name: value" lines as two strings each. */
enum { FUZZ_FIELDS_MAX = 70 };
struct fuzz_fields {
    struct fuzz_field {
        char *name, *value;
    } field[FUZZ_FIELDS_MAX];
    size_t count;
};

static inline void fuzz_fields_read(struct bytes in, const char *line_end, const char *colon,
                                    struct fuzz_fields *ret)
{
    ret->count = 0;
    while (in.len > 0 && ret->count < FUZZ_FIELDS_MAX) {
        struct bytes line = fuzz_until(&in, line_end);
        struct bytes name = fuzz_until(&line, colon);
        ret->field[ret->count++] =
            (struct fuzz_field){.name = fuzz_text(name), .value = fuzz_text(line)};
    }
}

static inline void fuzz_fields_done(struct fuzz_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        free(fields->field[i].name);
        free(fields->field[i].value);
    }
}
