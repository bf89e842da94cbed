/* Operations: what is done to a whole picture, at full resolution, after it is upright and before
 * it is fitted. OPERATIONS lists them in the order in which they are applied; a new one is a file
 * and a name there.
 *
 * Pixels are 8 bit, interleaved, row behind row, 1 to 4 bytes each. Every byte of a pixel is worked
 * on for itself, an alpha channel, too. In most requests there is none: transparency is laid on the
 * background first, as without operations, unless it is to stay (struct image_options). */
#pragma once

#include "image/private.h"
#include "image/scratch_buffer.h"

/* One operation on one picture. `in` and `out` are the caller's and do not overlap. */
struct operation_run {
    const uint8_t *in;
    uint8_t *out;
    struct image_size size, out_size;
    int top, bottom;              /* the rows of `out` to make; others are not touched */
    int bands;                    /* 1 to 4 */
    int value;                    /* of the option, never 0 */
    uint32_t background;          /* 0xRRGGBB: what `out` shows beside the picture */
    struct scratch_buffer *work;  /* for anything, until the run ends */
    const atomic_bool *cancelled; /* looked at between strips; may be NULL */
    bool portable;                /* for tests: not the form for this processor. The same bytes */
};

struct operation {
    const char *name; /* of the option */
    /* ERROR_BAD_REQUEST names the option and what it may be. 0: the picture stays as it is. */
    bool (*parse)(const char *name, const char *value, int *ret, struct error *err);
    /* The size of what comes out; NULL: that of what goes in. */
    struct image_size (*size)(int value, struct image_size in);
    /* What a pixel takes, in nanoseconds: an estimate for the queue. */
    double (*cost_ns)(int value);
    /* ERROR_DEADLINE, ERROR_OVERLOADED. NULL: not here (see cut_out.c). */
    bool (*apply)(const struct operation_run *run, struct error *err);
};

/* remove_background is the last: what follows it would have to know of alpha. */
#define OPERATIONS(X) X(median) X(mean) X(rotate) X(remove_background)

#define X(name) extern const struct operation operation_##name;
OPERATIONS(X)
#undef X

/* ROWS: between two looks at `cancelled`. */
enum { OPERATION_ROWS = 64 };

static inline size_t operation_row_bytes(const struct operation_run *run)
{
    return (size_t)run->size.width * (size_t)run->bands;
}

/* An odd number of pixels a side, 3 to `max`: how windows are given. */
bool operation_parse_window(const char *name, const char *value, int max, int *ret,
                            struct error *err) NODISCARD;

/* All rows of run->out, by up to that many threads, this one included, where it is worth it. The
 * same bytes. Errors as `apply`. */
bool operation_apply(const struct operation *operation, const struct operation_run *run,
                     int threads, struct error *err) NODISCARD;

/* --- all of them --- */

/* Whether anything is to be done at all. */
bool operations_asked(const struct image_options *options);
/* Whether operations_apply has anything to do. */
bool operations_apply_any(const struct image_options *options);
/* As image_options_set: ERROR_NOT_FOUND for an unknown name. */
bool operations_set(struct image_options *options, const char *name, const char *value,
                    struct error *err) NODISCARD;
/* Append "median=5\nrotate=90\n" to the text in out, which has `size` bytes; nothing without. */
void operations_text(const struct image_options *options, char *out, size_t size);
/* What a picture's size becomes. */
struct image_size operations_size(const struct image_options *options, struct image_size in);
/* What they take, in nanoseconds. */
double operations_cost_ns(const struct image_options *options, struct image_size size);

/* The pictures on the way, two at a time, in bytes: what operations need besides the
 * decoder.
 */
int64_t operations_memory(const struct image_options *options, struct image_size size);
/* What remove_background alone needs, whichever way a picture stored in that size is turned: an
 * estimate for a model of usual size. */
int64_t cut_out_memory(const struct image_options *options, struct image_size stored);

/* Before anything is decoded: whether the pictures on the way stay within the limits (max_pixels
 * each; max_decode_bytes the decoder and operations_memory). ERROR_TOO_LARGE. */
bool operations_check(const struct image_options *options, const struct image_header *header,
                      const struct image_limits *limits, struct error *err) NODISCARD;

/* Apply them to `picture`, which lies in buffers[0]; both buffers may be exchanged, and hold the
 * result. *picture is then that. */
bool operations_apply(const struct image_options *options, const struct image_input *input,
                      struct scratch_buffer buffers[2], struct scratch_buffer *work,
                      struct picture *picture, struct error *err) NODISCARD;
