#include "http/image_data.h"

#include "base/json.h"
#include "base/strings.h"
#include "http/encoding.h"

#include <string.h>

static const char member[] = "image_data";

/* The end of a JSON string: the index of its closing quote. */
static size_t string_end(struct bytes text, size_t i)
{
    while (i < text.len && text.data[i] != '"')
        i += text.data[i] == '\\' ? 2 : 1;
    return i < text.len ? i : text.len;
}

/* The text of the outermost object's last image_data, without its quotes: a tree of values would
 * hold it twice, and jansson reads it byte by byte. Whether all else is JSON, its parser says. */
static struct bytes find_text(struct bytes text)
{
    struct bytes found = {text.data, 0};
    bool key = false, named = false; /* the last string was the member's name; ':' came behind it */
    int depth = 0;

    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.data[i];

        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        if (c == '"') {
            struct bytes string = {text.data + i + 1, 0};
            i = string_end(text, i + 1);
            string.len = (size_t)(text.data + i - string.data);
            if (named)
                found = string;
            key = depth == 1 && !named && bytes_equal(string, bytes_from_str(member));
            named = false;
        } else if (c == ':') {
            named = key;
        } else if (strchr(",{[]}", c) != NULL && c != '\0') {
            key = named = false;
        }
    }
    return found;
}

/* The next character of a JSON string's text. */
static int next_character(struct bytes text, size_t *i)
{
    int c = text.data[(*i)++];
    unsigned code;
    char hex[5] = "";

    if (c != '\\' || *i == text.len)
        return c;
    c = text.data[(*i)++];
    if (c != 'u' || text.len - *i < 4)
        return c == '/' ? c : ' '; /* \n and its like are white space */
    memcpy(hex, text.data + *i, 4);
    *i += 4;
    return sscanf(hex, "%4x", &code) == 1 && code < 0x80 ? (int)code : ' ';
}

static bool decode(struct bytes text, struct buffer *out, struct error *err)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int8_t value[256];
    uint32_t bits = 0;
    size_t digits = 0;

    memset(value, -1, sizeof(value));
    for (int8_t i = 0; i < 64; i++)
        value[(uint8_t)alphabet[i]] = i;
    value['-'] = value['+'];
    value['_'] = value['/'];
    if (!buffer_reserve(out, text.len / 4 * 3 + 3, err))
        return false;
    for (size_t i = 0; i < text.len;) {
        int c = next_character(text, &i);

        if (c == '=')
            break;
        if (value[c] < 0)
            continue;
        bits = bits << 6 | (uint8_t)value[c];
        if (++digits % 4 != 0)
            continue;
        out->data[out->len++] = (uint8_t)(bits >> 16);
        out->data[out->len++] = (uint8_t)(bits >> 8);
        out->data[out->len++] = (uint8_t)bits;
    }
    if (digits % 4 == 1)
        return error_set(err, ERROR_BAD_REQUEST, "image_data is not valid base64");
    if (digits % 4 == 2)
        out->data[out->len++] = (uint8_t)(bits >> 4);
    if (digits % 4 == 3) {
        out->data[out->len++] = (uint8_t)(bits >> 10);
        out->data[out->len++] = (uint8_t)(bits >> 2);
    }
    return true;
}

static bool read_rest(struct bytes text, struct bytes without, struct image_data *ret,
                      struct error *err)
{
    CLEANUP(buffer_done) struct buffer rest = BUFFER_MAX(IMAGE_DATA_REST_MAX);
    const size_t before = (size_t)(without.data - text.data);
    const size_t after = before + without.len;

    if (text.len - without.len > IMAGE_DATA_REST_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d bytes of JSON beside image_data",
                         IMAGE_DATA_REST_MAX);
    if (!buffer_append(&rest, text.data, before, err) ||
        !buffer_append(&rest, text.data + after, text.len - after, err))
        return false;
    ret->object = json_read(buffer_view(&rest), 0, err);
    if (!json_is_object(ret->object))
        return error_set(err, ERROR_BAD_REQUEST, "the body is not a JSON object");
    const json_t *data = json_object_get(ret->object, member);
    return data == NULL || json_is_null(data) || json_is_string(data) ||
           error_set(err, ERROR_BAD_REQUEST, "image_data is not a text");
}

bool image_data_parse(struct bytes text, struct byte_budget *budget, struct image_data *ret,
                      struct error *err)
{
    if (text.len == 0)
        return error_set(err, ERROR_BAD_REQUEST, "the body is not a JSON object");
    struct bytes base64 = find_text(text);
    const size_t size = base64.len / 4 * 3 + 3;

    *ret = (struct image_data){.picture = BUFFER_MAX(size), .budget = budget};
    if (!read_rest(text, base64, ret, err))
        return false;
    if (!byte_budget_take(budget, (int64_t)size))
        return error_set(err, ERROR_OVERLOADED, "no room for a picture of %zu bytes", size);
    ret->charged = (int64_t)size;
    return decode(base64, &ret->picture, err);
}

bool image_data_read(const struct request *req, size_t max, struct image_data *ret,
                     struct error *err)
{
    CLEANUP(decoded_body_done) struct decoded_body body = {0};

    return body_decode(req, max, &body, err) &&
           image_data_parse(body.bytes, req->context.budget, ret, err);
}

void image_data_done(struct image_data *data)
{
    json_decref(data->object);
    buffer_done(&data->picture);
    if (data->charged > 0)
        byte_budget_give(data->budget, data->charged);
    *data = (struct image_data){0};
}

size_t image_data_size(size_t picture_bytes)
{
    enum { OTHER_MEMBERS = 4096 };

    return (picture_bytes + 2) / 3 * 4 + OTHER_MEMBERS;
}

bool image_data_write(json_t *object, const struct image_member *members, size_t count,
                      struct buffer *out, struct error *err)
{
    bool first = json_object_size(object) == 0;

    if (!json_append(object, out, err))
        return false;
    out->len--; /* the brace that ends it */
    for (size_t i = 0; i < count; i++, first = false)
        if (!buffer_printf(out, err, "%s\"%s\":\"", first ? "" : ",", members[i].name) ||
            !string_base64_encode(members[i].picture, out, err) ||
            !buffer_append_str(out, "\"", err))
            return false;
    return buffer_append_str(out, "}", err);
}
