#include "image/ops/operations.h"

#include "base/strings.h"

#include <string.h>

enum { RGB = 3, RGBA = 4 };

static const struct operation *const operations[] = {
#define X(name) &operation_##name,
    OPERATIONS(X)
#undef X
};
_Static_assert(ARRAY_SIZE(operations) <= IMAGE_OPERATIONS_MAX, "a place in struct image_options");

static struct image_size size_after(size_t i, int value, struct image_size in)
{
    return operations[i]->size != NULL ? operations[i]->size(value, in) : in;
}

bool operation_parse_window(const char *name, const char *value, int max, int *ret,
                            struct error *err)
{
    int64_t number;

    if (!string_to_int64(value, 3, max, &number) || number % 2 == 0)
        return error_set(err, ERROR_BAD_REQUEST, "%s: must be an odd number from 3 to %d", name,
                         max);
    *ret = (int)number;
    return true;
}

bool operations_asked(const struct image_options *options)
{
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (options->operations[i] != 0)
            return true;
    return false;
}

bool operations_apply_any(const struct image_options *options)
{
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (options->operations[i] != 0 && operations[i]->apply != NULL)
            return true;
    return false;
}

bool image_options_cut_out(const struct image_options *options)
{
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (operations[i] == &operation_remove_background)
            return options->operations[i] != 0;
    return false;
}

bool operations_set(struct image_options *options, const char *name, const char *value,
                    struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (strcmp(name, operations[i]->name) == 0)
            return operations[i]->parse(name, value, &options->operations[i], err);
    return error_set(err, ERROR_NOT_FOUND, "no such option");
}

void operations_text(const struct image_options *options, char *out, size_t size)
{
    size_t len = strlen(out);

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (options->operations[i] != 0)
            len += (size_t)snprintf(out + len, size - len, "%s=%d\n", operations[i]->name,
                                    options->operations[i]);
    if (len >= size) /* two pictures would have one content id */
        abort();
}

struct image_size operations_size(const struct image_options *options, struct image_size in)
{
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (options->operations[i] != 0)
            in = size_after(i, options->operations[i], in);
    return in;
}

double operations_cost_ns(const struct image_options *options, struct image_size size)
{
    double cost = 0;

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        int value = options->operations[i];

        if (value == 0)
            continue;
        size = size_after(i, value, size);
        cost += operations[i]->cost_ns(value) * size.width * size.height;
    }
    return cost;
}

int64_t operations_memory(const struct image_options *options, struct image_size size)
{
    const int64_t first = (int64_t)size.width * size.height;
    int64_t largest = first;

    if (!operations_apply_any(options)) /* cut_out_memory */
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        if (options->operations[i] == 0)
            continue;
        size = size_after(i, options->operations[i], size);
        int64_t there = (int64_t)size.width * size.height;
        largest = there > largest ? there : largest;
    }
    return (options->keep_channels ? RGBA : RGB) * (first + largest);
}

bool operations_check(const struct image_options *options, const struct image_header *header,
                      const struct image_limits *limits, struct error *err)
{
    struct image_size size = {header->width, header->height};
    const int64_t memory = operations_memory(options, size);

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        int value = options->operations[i];

        if (value == 0)
            continue;
        size = size_after(i, value, size);
        if (size.width > IMAGE_DIMENSION_MAX || size.height > IMAGE_DIMENSION_MAX)
            return error_set(err, ERROR_TOO_LARGE,
                             "%s: the picture would have %d x %d pixels, more than %d a side",
                             operations[i]->name, size.width, size.height, IMAGE_DIMENSION_MAX);
        if ((int64_t)size.width * size.height > limits->max_pixels)
            return error_set(
                err, ERROR_TOO_LARGE, "%s: the picture would have %d x %d pixels, more than %lld",
                operations[i]->name, size.width, size.height, (long long)limits->max_pixels);
    }
    if (memory > 0 && header->memory + memory > limits->max_decode_bytes)
        return error_set(err, ERROR_TOO_LARGE,
                         "operations on the whole image would take more than %lld bytes of memory",
                         (long long)limits->max_decode_bytes);
    return true;
}

static size_t bytes_after(const struct operation_run *run)
{
    return (size_t)run->bands * (size_t)run->out_size.width * (size_t)run->out_size.height;
}

bool operations_apply(const struct image_options *options, const struct image_input *input,
                      struct scratch_buffer buffers[2], struct scratch_buffer *work,
                      struct picture *picture, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        struct operation_run run = {
            .in = picture->rgb,
            .size = {picture->width, picture->height},
            .bands = picture->alpha ? RGBA : RGB,
            .value = options->operations[i],
            .background = options->background,
            .work = work,
            .cancelled = input->cancelled,
        };

        if (run.value == 0 || operations[i]->apply == NULL)
            continue;
        run.out_size = size_after(i, run.value, run.size);
        if (!scratch_buffer_need(&buffers[1], bytes_after(&run), err))
            return false;
        run.out = buffers[1].data;
        if (!operation_apply(operations[i], &run, input->threads, err))
            return false;
        struct scratch_buffer made = buffers[1];
        buffers[1] = buffers[0];
        buffers[0] = made;
        picture->rgb = buffers[0].data;
        picture->width = run.out_size.width;
        picture->height = run.out_size.height;
    }
    return true;
}

bool image_operate_pixels(const struct image_input *input, const struct image_pixels *pixels,
                          const struct image_options *options, struct image_pixels *ret,
                          struct error *err)
{
    CLEANUP(scratch_buffer_done) struct scratch_buffer work = {0}, out = {0};
    struct operation_run run = {
        .in = pixels->data,
        .size = pixels->size,
        .bands = pixels->bands,
        .background = options->background,
        .work = &work,
        .cancelled = input->cancelled,
    };
    size_t i = 0;

    while (i < ARRAY_SIZE(operations) && options->operations[i] == 0)
        i++;
    if (i == ARRAY_SIZE(operations) || operations[i]->apply == NULL)
        return error_set(err, ERROR_INTERNAL, "no operation on pixels");
    run.value = options->operations[i];
    run.out_size = size_after(i, run.value, run.size);
    if (!scratch_buffer_need(&out, bytes_after(&run), err))
        return false;
    run.out = out.data;
    if (!operation_apply(operations[i], &run, input->threads, err))
        return false;
    ret->data = TAKE_PTR(out.data);
    ret->size = run.out_size;
    ret->bands = run.bands;
    return true;
}
