#include "grpc/reflection.h"

#include "base/embed.h"

#include <string.h>

EMBED_BYTES(grpc_descriptors, "build/proto/descriptors.pb");

/* ---- protocol buffers, field by field: protobuf-c has no descriptors of descriptors ---- */

enum wire_type { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 5 };

struct field {
    uint64_t number;
    struct bytes value; /* of a field that has a length; else empty */
};

static bool skip(struct bytes *in, uint64_t n)
{
    if (n > in->len)
        return false;
    in->data += n;
    in->len -= (size_t)n;
    return true;
}

static bool next_varint(struct bytes *in, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (in->len == 0)
            return false;
        uint8_t byte = *in->data;
        *ret |= (uint64_t)(byte & 0x7f) << shift;
        if (!skip(in, 1) || byte < 0x80)
            return byte < 0x80;
    }
    return false;
}

/* False at the end. */
static bool next_field(struct bytes *in, struct field *ret)
{
    uint64_t key, n = 0;

    *ret = (struct field){0};
    if (!next_varint(in, &key))
        return false;
    ret->number = key >> 3;
    switch (key & 7) {
    case WIRE_VARINT:
        return next_varint(in, &n);
    case WIRE_64:
        return skip(in, 8);
    case WIRE_32:
        return skip(in, 4);
    case WIRE_BYTES:
        if (!next_varint(in, &n))
            return false;
        ret->value = bytes_of(in->data, (size_t)n);
        return skip(in, n);
    default:
        return false;
    }
}

/* The first field with that number, or nothing. */
static struct bytes field_of(struct bytes message, uint64_t number)
{
    struct field field;

    while (next_field(&message, &field))
        if (field.number == number)
            return field.value;
    return (struct bytes){0};
}

/* ---- descriptors: google/protobuf/descriptor.proto ---- */

enum { NAME = 1, FILE_PACKAGE = 2, FILE_SERVICE = 6 };

enum kind { NONE, FILE_, MESSAGE, ENUM, SERVICE, LEAF };

/* What the field with that number describes. */
static enum kind kind_of(enum kind parent, uint64_t number)
{
    static const enum kind children[][9] = {
        [FILE_] = {[4] = MESSAGE, [5] = ENUM, [6] = SERVICE},
        [MESSAGE] = {[2] = LEAF, [3] = MESSAGE, [4] = ENUM, [8] = LEAF},
        [ENUM] = {[2] = LEAF},
        [SERVICE] = {[2] = LEAF},
        [LEAF] = {NONE},
    };

    return number < ARRAY_SIZE(children[0]) ? children[parent][number] : NONE;
}

/* What follows the name and the dot in `path`; "": nothing does; NULL: another name. */
static const char *behind(const char *path, struct bytes name)
{
    if (name.len == 0 || strncmp(path, (const char *)name.data, name.len) != 0)
        return NULL;
    path += name.len;
    if (*path == '\0')
        return path;
    return path[0] == '.' && path[1] != '\0' ? path + 1 : NULL;
}

/* Whether `path`, relative to it, names something that it describes. */
static bool describes(struct bytes parent, enum kind kind, const char *path)
{
    struct field field;

    while (next_field(&parent, &field)) {
        enum kind child = kind_of(kind, field.number);
        const char *rest = child != NONE ? behind(path, field_of(field.value, NAME)) : NULL;
        if (rest != NULL && (*rest == '\0' || describes(field.value, child, rest)))
            return true;
    }
    return false;
}

static struct bytes all_files(void)
{
    return bytes_of(grpc_descriptors, (size_t)grpc_descriptors_size);
}

bool reflection_file(const char *path, struct bytes *ret)
{
    struct bytes files = all_files();
    struct field file;

    while (next_field(&files, &file))
        if (bytes_equal(field_of(file.value, NAME), bytes_from_str(path))) {
            *ret = file.value;
            return true;
        }
    return false;
}

static bool is_in(struct bytes file, const char *symbol)
{
    struct bytes package = field_of(file, FILE_PACKAGE);

    if (package.len == 0)
        return describes(file, FILE_, symbol);
    const char *path = behind(symbol, package);
    return path != NULL && describes(file, FILE_, path);
}

bool reflection_file_of(const char *symbol, struct bytes *ret)
{
    struct bytes files = all_files();
    struct field file;

    while (next_field(&files, &file))
        if (is_in(file.value, symbol)) {
            *ret = file.value;
            return true;
        }
    return false;
}

bool reflection_service(size_t index, char ret[REFLECTION_NAME_MAX])
{
    struct bytes files = all_files();
    struct field file, field;

    while (next_field(&files, &file)) {
        struct bytes package = field_of(file.value, FILE_PACKAGE);
        for (struct bytes in = file.value; next_field(&in, &field);) {
            if (field.number != FILE_SERVICE || index-- > 0)
                continue;
            struct bytes name = field_of(field.value, NAME);
            snprintf(ret, REFLECTION_NAME_MAX, "%.*s%s%.*s", (int)package.len,
                     (const char *)package.data, package.len > 0 ? "." : "", (int)name.len,
                     (const char *)name.data);
            return true;
        }
    }
    return false;
}
