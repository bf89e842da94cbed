/* What the pipeline's handlers share: JSON with pictures in and out; the plot. */
#pragma once

#include "http/image_data.h"
#include "pipeline.h"

/* Errors of image_data_read, and ERROR_BAD_REQUEST with the text `missing` when no picture came. */
bool read_image_data(const struct app *app, const struct request *req, const char *missing,
                     struct image_data *ret, struct error *err) NODISCARD;
/* As sent with it, borrowed; "unknown". */
const char *read_file_name(const struct image_data *data);

/* An object with pictures, charged to the request's budget. Takes the reference to `object`. */
struct reply reply_pictures(const struct request *req, json_t *object,
                            const struct image_member *members, size_t count);

enum { PLOT_BYTES_MAX = 4 * 1024 * 1024 };
/* What its clients print the last part of. */
#define PLOT_NAME "/app/results/pipeline_timeline.png"
/* The plot with `task`, as PNG; empty when it cannot be drawn: the result is one all the same. */
void draw_plot(const struct app *app, const struct request *req, const struct task *task,
               struct buffer *out);
