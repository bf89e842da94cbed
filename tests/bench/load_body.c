#include "load.h"

#include "program.h"

#include <stdlib.h>
#include <string.h>

#define BOUNDARY "darkroom-bench-boundary"

static const char form_head[] = "--" BOUNDARY "\r\n"
                                "Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n"
                                "Content-Type: %s\r\n\r\n";
static const char form_tail[] = "\r\n--" BOUNDARY "--\r\n";

static void make_head(struct load_body *body, const struct load_options *o, const char *type,
                      size_t len)
{
    char part[EXCHANGE_HEAD_MAX] = "";

    if (o->multipart) {
        len += (size_t)snprintf(part, sizeof(part), form_head, type);
        len += strlen(form_tail);
        body->tail = form_tail;
        body->tail_len = strlen(form_tail);
        type = "multipart/form-data; boundary=" BOUNDARY;
    }
    body->head = allocate(2 * EXCHANGE_HEAD_MAX);
    body->head_len = (size_t)snprintf(body->head, 2 * EXCHANGE_HEAD_MAX,
                                      "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                                      "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                                      o->path, o->port, type, len, part);
    if (body->head_len >= 2 * EXCHANGE_HEAD_MAX)
        die("--path is too long");
}

static struct load_body *read_photos(const struct load_options *o, size_t *count)
{
    struct load_body *bodies = calloc((size_t)o->photo_count, sizeof(*bodies));

    if (bodies == NULL)
        die("out of memory");
    for (int i = 0; i < o->photo_count; i++) {
        struct photo *photo = &bodies[i].photo;

        if (!photo_read(photo, o->photos[i]))
            exit(2);
        make_head(&bodies[i], o, photo->type, photo->len + photo->mark_len);
    }
    *count = (size_t)o->photo_count;
    return bodies;
}

/* The lines stay where they were read: the first one begins the memory of all. */
static struct load_body *read_lines(const struct load_options *o, size_t *count)
{
    size_t len, lines = 0;
    char *text = (char *)file_read(o->json, &len);
    struct load_body *bodies;

    if (text == NULL)
        exit(2);
    for (const char *p = text; *p != '\0'; p++)
        lines += *p == '\n';
    if (lines == 0)
        die("%s: no lines", o->json);
    bodies = calloc(lines, sizeof(*bodies));
    if (bodies == NULL)
        die("out of memory");
    for (size_t i = 0; i < lines; i++) {
        size_t n = strcspn(text, "\n");

        bodies[i].line = (struct iovec){text, n};
        make_head(&bodies[i], o, "application/json", n);
        text += n + 1;
    }
    *count = lines;
    return bodies;
}

struct load_body *load_bodies_make(const struct load_options *options, size_t *count)
{
    return options->json != NULL ? read_lines(options, count) : read_photos(options, count);
}

void load_bodies_free(struct load_body *bodies, size_t count)
{
    free(bodies[0].line.iov_base);
    for (size_t i = 0; i < count; i++) {
        photo_done(&bodies[i].photo);
        free(bodies[i].head);
    }
    free(bodies);
}

/* writev takes what it does not change by a pointer to what it might */
static struct iovec borrow(const void *data, size_t len)
{
    struct iovec v = {.iov_len = len};

    memcpy(&v.iov_base, &data, sizeof(data));
    return v;
}

void load_body_put(const struct load_body *body, uint64_t run, uint64_t counter, struct exchange *x)
{
    const struct photo *photo = &body->photo;

    x->piece[0] = borrow(body->head, body->head_len);
    x->pieces = 2;
    if (photo->data == NULL) {
        x->piece[1] = body->line;
        return;
    }
    photo_mark(photo, run, counter, x->mark);
    x->piece[1] = borrow(photo->data, photo->split);
    x->piece[2] = borrow(x->mark, photo->mark_len);
    x->piece[3] = borrow(photo->data + photo->split, photo->len - photo->split);
    x->piece[4] = borrow(body->tail, body->tail_len);
    x->pieces = 5;
}
