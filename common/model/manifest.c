#include "model/manifest.h"

#include "base/json.h"
#include "base/xmalloc.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <string.h>

enum { SIDE_MAX = 4096, DROP_MAX = 1000, FILE_MAX = 65536 };

static bool invalid(struct error *err, const char *what)
{
    return error_set(err, ERROR_CONFIG, "%s is missing or not valid", what);
}

static const char *text_at(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL && *text != '\0' ? text : NULL;
}

static bool number_at(const json_t *object, const char *name, int min, int max, int *ret)
{
    const json_t *value = json_object_get(object, name);
    json_int_t n = json_integer_value(value);

    if (!json_is_integer(value) || n < min || n > max)
        return false;
    *ret = (int)n;
    return true;
}

static bool triple_at(const json_t *object, const char *name, float ret[3])
{
    const json_t *array = json_object_get(object, name);

    if (json_array_size(array) != 3)
        return false;
    for (size_t i = 0; i < 3; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_number(value))
            return false;
        ret[i] = (float)json_number_value(value);
        if (!isfinite(ret[i])) /* beyond float's range */
            return false;
    }
    return true;
}

static bool read_resize(const json_t *resize, struct manifest *ret, struct error *err)
{
    struct image_tensor_spec *spec = &ret->input;
    int least = spec->width > spec->height ? spec->width : spec->height;
    const char *crop = text_at(resize, "crop");

    if (ret->kind == MANIFEST_MASK)
        return json_is_true(json_object_get(resize, "stretch")) ||
               invalid(err, "input.resize (stretch true)");
    return (number_at(resize, "short_side", least, SIDE_MAX, &spec->short_side) && crop != NULL &&
            strcmp(crop, "center") == 0) ||
           invalid(err, "input.resize (short_side not below the input's sides, crop center)");
}

static bool read_input(const json_t *input, struct manifest *ret, struct error *err)
{
    const char *tensor = text_at(input, "tensor");
    const char *layout = text_at(input, "layout");
    struct image_tensor_spec *spec = &ret->input;

    if (tensor == NULL)
        return invalid(err, "input.tensor");
    if (layout == NULL || (strcmp(layout, "NCHW") != 0 && strcmp(layout, "NHWC") != 0))
        return invalid(err, "input.layout (NCHW or NHWC)");
    spec->nchw = strcmp(layout, "NCHW") == 0;
    if (!number_at(input, "height", 1, SIDE_MAX, &spec->height) ||
        !number_at(input, "width", 1, SIDE_MAX, &spec->width))
        return invalid(err, "input.height or input.width");
    if (!triple_at(input, "mean", spec->mean) || !triple_at(input, "std", spec->std) ||
        !(spec->std[0] > 0 && spec->std[1] > 0 && spec->std[2] > 0))
        return invalid(err, "input.mean or input.std (three numbers, std above 0)");
    if (!read_resize(json_object_get(input, "resize"), ret, err))
        return false;
    ret->input_tensor = xstrdup(tensor);
    return true;
}

static bool read_output(const json_t *output, struct manifest *ret, struct error *err)
{
    const char *tensor = text_at(output, "tensor");
    const char *activation = text_at(output, "activation");

    if (tensor == NULL)
        return invalid(err, "output.tensor");
    if (activation == NULL ||
        (strcmp(activation, "none") != 0 && strcmp(activation, "softmax") != 0))
        return invalid(err, "output.activation (none or softmax)");
    ret->softmax = strcmp(activation, "softmax") == 0;
    if (ret->kind == MANIFEST_MASK && ret->softmax)
        return invalid(err, "output.activation (none: the model ends in numbers from 0 to 1)");
    if (ret->kind == MANIFEST_CLASSIFIER &&
        !number_at(output, "drop_first", 0, DROP_MAX, &ret->drop_first))
        return invalid(err, "output.drop_first");
    ret->output_tensor = xstrdup(tensor);
    return true;
}

static bool add_label(struct manifest *ret, const char *line, struct error *err)
{
    if (ret->label_count == MANIFEST_LABELS_MAX)
        return error_set(err, ERROR_CONFIG, "labels: more than %d lines", MANIFEST_LABELS_MAX);
    if (ret->label_count % 256 == 0)
        ret->labels = xreallocarray(ret->labels, ret->label_count + 256, sizeof(*ret->labels));
    if (!string_is_utf8(bytes_from_str(line)))
        return error_set(err, ERROR_CONFIG, "labels: a line is not UTF-8");
    ret->labels[ret->label_count++] = xstrdup(line);
    return true;
}

static bool read_labels(const char *path, struct manifest *ret, struct error *err)
{
    CLEANUP_FCLOSE FILE *f = fopen(path, "re");
    CLEANUP_FREE char *line = NULL;
    size_t size = 0;
    int number = 0;

    if (f == NULL)
        return error_set(err, ERROR_CONFIG, "%s: %s", path, strerror(errno));
    while (getline(&line, &size, f) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        if (number++ >= ret->drop_first && !add_label(ret, line, err))
            return false;
    }
    if (!feof(f)) /* a missing label would shift all that follow */
        return error_set(err, ERROR_CONFIG, "%s: %s", path, strerror(errno));
    return ret->label_count > 0 || error_set(err, ERROR_CONFIG, "%s: no labels", path);
}

static bool read_json(const json_t *json, const char *folder, struct manifest *ret,
                      struct error *err)
{
    const char *name = text_at(json, "name");
    const char *file = text_at(json, "file");
    const char *sha256 = text_at(json, "sha256");
    const char *labels = text_at(json_object_get(json, "labels"), "file");

    /* the name stands in URLs (/v2/models/{name}) */
    if (name == NULL || strlen(name) > MANIFEST_NAME_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
            strlen(name))
        return invalid(err, "name (letters, digits, . _ -)");
    if (file == NULL)
        return invalid(err, "file");
    if (sha256 == NULL || !string_is_sha256_hex(sha256))
        return invalid(err, "sha256");
    if (labels == NULL && ret->kind == MANIFEST_CLASSIFIER)
        return invalid(err, "labels.file");
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    snprintf(ret->sha256, sizeof(ret->sha256), "%s", sha256);
    ret->file = xasprintf("%s/%s", folder, file);
    if (!read_input(json_object_get(json, "input"), ret, err) ||
        !read_output(json_object_get(json, "output"), ret, err))
        return false;
    if (ret->kind == MANIFEST_MASK)
        return true;
    CLEANUP_FREE char *label_path = xasprintf("%s/%s", folder, labels);
    return read_labels(label_path, ret, err);
}

/* NULL: ERROR_CONFIG. */
static json_t *load(const char *path, struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(FILE_MAX);
    CLEANUP_FCLOSE FILE *f = fopen(path, "re");
    struct error why = {0};

    if (f == NULL)
        error_set(&why, ERROR_CONFIG, "%s", strerror(errno));
    json_t *json = NULL;
    if (f != NULL && buffer_reserve(&text, FILE_MAX, &why)) {
        text.len = fread(text.data, 1, FILE_MAX, f);
        json = json_read(buffer_view(&text), JSON_REJECT_DUPLICATES, &why);
    }
    if (json == NULL)
        error_set(err, ERROR_CONFIG, "%s: %s (`make model` makes the usual one)", path,
                  why.message);
    return json;
}

bool manifest_read(const char *path, enum manifest_kind kind, struct manifest *ret,
                   struct error *err)
{
    *ret = (struct manifest){0};
    CLEANUP_FREE char *copy_of_path = xstrdup(path);
    json_t *json = load(path, err);
    if (json == NULL)
        return false;
    ret->kind = kind;
    bool ok = read_json(json, dirname(copy_of_path), ret, err);
    json_decref(json);
    if (ok)
        return true;
    manifest_done(ret);
    return error_wrap(err, "%s", path);
}

void manifest_done(struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->label_count; i++)
        free(manifest->labels[i]);
    free(manifest->labels);
    free(manifest->file);
    free(manifest->input_tensor);
    free(manifest->output_tensor);
    *manifest = (struct manifest){0};
}
