/* A picture in JSON, {"image_data": "<base64>", …}, as the older pipeline's clients and services
 * send it. Pure; thread-safe. */
#pragma once

#include "http/request.h"

#include <jansson.h>

/* Zero-initialise; done by image_data_done. */
struct image_data {
    json_t *object;        /* what else the object says; a text in its image_data is left out */
    struct buffer picture; /* empty: image_data is missing, null or empty */
    struct byte_budget *budget;
    int64_t charged; /* for the picture */
};

enum { IMAGE_DATA_REST_MAX = 65536 }; /* of the JSON beside the picture */

/* The picture is charged to the budget. Base64 is read as their servers do: padding may be missing,
 * the URL's alphabet will do, other characters are skipped.
 * ERROR_BAD_REQUEST: not a JSON object, image_data is not base64. ERROR_TOO_LARGE: more than
 * IMAGE_DATA_REST_MAX beside it. ERROR_OVERLOADED: no room now. */
bool image_data_parse(struct bytes text, struct byte_budget *budget, struct image_data *ret,
                      struct error *err) NODISCARD;
/* The same of a request's body, whatever its Content-Type; `max`: of an unpacked body. Errors of
 * body_decode, too. */
bool image_data_read(const struct request *req, size_t max, struct image_data *ret,
                     struct error *err) NODISCARD;
void image_data_done(struct image_data *data);

/* Bytes of an object with a picture of that many, and some room for other members. */
size_t image_data_size(size_t picture_bytes);
/* An object with pictures as base64, appended to out; takes the reference to `object`, which has
 * its other members. ERROR_BAD_REQUEST for the NULL of json_pack. */
struct image_member {
    const char *name; /* "image_data" */
    struct bytes picture;
};
bool image_data_write(json_t *object, const struct image_member *members, size_t count,
                      struct buffer *out, struct error *err) NODISCARD;
