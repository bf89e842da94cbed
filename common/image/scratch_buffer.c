#include "image/scratch_buffer.h"

bool scratch_buffer_need(struct scratch_buffer *s, size_t size, struct error *err)
{
    if (s->size >= size)
        return true;
    scratch_buffer_done(s);
    s->data = malloc(size);
    if (s->data == NULL)
        return error_oom(err);
    s->size = size;
    return true;
}

void scratch_buffer_done(struct scratch_buffer *s)
{
    free(s->data);
    *s = (struct scratch_buffer){0};
}

void scratch_buffer_trim(struct scratch_buffer *s, size_t keep_bytes)
{
    if (s->size > keep_bytes)
        scratch_buffer_done(s);
}
