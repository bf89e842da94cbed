/* An upload's options: those of the query ("a=b&c=d"), a newline, and those of the form. */
#include "fuzz.h"
#include "http/upload.h"
#include "image/image.h"

static bool set(void *ctx, const char *name, const char *value, struct error *err)
{
    return image_options_set(ctx, name, value, err);
}

/* The canonical text, read as options, gives the same text. */
static void check_round_trip(const struct image_options *options)
{
    char text[IMAGE_OPTIONS_TEXT_MAX], again[IMAGE_OPTIONS_TEXT_MAX];
    struct image_options read = image_options_default();
    CLEANUP(fuzz_fields_done) struct fuzz_fields fields;
    struct error err = {0};

    image_options_text(options, text);
    FUZZ_CHECK(string_starts_with(text, "darkroom-") && string_ends_with(text, "\n"));
    struct bytes in = bytes_from_str(text);
    fuzz_until(&in, "\n");
    fuzz_fields_read(in, "\n", "=", &fields);
    FUZZ_CHECK(fields.count >= 6); /* and operations */
    for (size_t i = 0; i < fields.count; i++)
        if (strcmp(fields.field[i].value, "0") != 0) /* an unset dimension */
            FUZZ_CHECK(image_options_set(&read, fields.field[i].name, fields.field[i].value, &err));
    image_options_text(&read, again);
    FUZZ_CHECK(strcmp(text, again) == 0);
}

static void check_limits(const struct image_options *options)
{
    int64_t pixels = (int64_t)options->width * options->height;

    FUZZ_CHECK(options->width <= IMAGE_DIMENSION_MAX && options->height <= IMAGE_DIMENSION_MAX);
    FUZZ_CHECK(pixels <= (options->format == IMAGE_AVIF ? IMAGE_OUTPUT_PIXELS_MAX_AVIF
                                                        : IMAGE_OUTPUT_PIXELS_MAX));
    FUZZ_CHECK(options->format != IMAGE_WEBP ||
               (options->width <= 16383 && options->height <= 16383));
}

static void fill_upload(const struct fuzz_fields *form, struct upload *upload)
{
    *upload = (struct upload){0};
    for (size_t i = 0; i < form->count && i < MULTIPART_PARTS_MAX; i++) {
        struct upload_field *field = &upload->fields[upload->field_count++];
        snprintf(field->name, sizeof(field->name), "%s", form->field[i].name);
        snprintf(field->value, sizeof(field->value), "%s", form->field[i].value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes form_text = bytes_of(data, size);
    struct bytes query_text = fuzz_until(&form_text, "\n");
    CLEANUP(fuzz_fields_done) struct fuzz_fields query;
    CLEANUP(fuzz_fields_done) struct fuzz_fields form;
    struct http_field fields[FUZZ_FIELDS_MAX];
    struct image_options options = image_options_default();
    struct upload upload;
    struct error err = {0};

    fuzz_fields_read(query_text, "&", "=", &query);
    fuzz_fields_read(form_text, "&", "=", &form);
    for (size_t i = 0; i < query.count; i++)
        fields[i] = (struct http_field){query.field[i].name, query.field[i].value};
    fill_upload(&form, &upload);
    const struct request req = {.query = fields, .query_count = query.count};
    if (upload_options(&req, &upload, set, &options, &err)) {
        FUZZ_CHECK(options.quality >= 0 && options.quality <= 100);
        FUZZ_CHECK(options.background <= 0xffffff);
        check_round_trip(&options);
        if (image_options_check(&options, &err))
            check_limits(&options);
        else
            FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
    }
    return 0;
}
