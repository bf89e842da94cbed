/* darkroom.v1.Catalogue: what /v1/images does, as calls. */
#include "base/xmalloc.h"
#include "darkroom/v1/catalogue.pb-c.h"
#include "grpc/message.h"
#include "pictures.h"

/* ---- a picture as a message, which points into the JSON that it was made of ---- */

static char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return grpc_text(text != NULL ? text : "");
}

static int64_t number_of(const json_t *json, const char *key)
{
    return json_integer_value(json_object_get(json, key));
}

static Darkroom__V1__StoredImage__Tag *tag_new(const json_t *json)
{
    Darkroom__V1__StoredImage__Tag *tag = xcalloc(1, sizeof(*tag));

    darkroom__v1__stored_image__tag__init(tag);
    tag->tag = text_of(json, "tag");
    tag->confidence = json_real_value(json_object_get(json, "confidence"));
    return tag;
}

static Darkroom__V1__StoredImage *image_new(const json_t *json)
{
    Darkroom__V1__StoredImage *image = xcalloc(1, sizeof(*image));
    const json_t *tags = json_object_get(json, "tags");

    darkroom__v1__stored_image__init(image);
    image->id = text_of(json, "id");
    image->gcs_path = text_of(json, "gcs_path");
    image->owner = text_of(json, "owner");
    image->label = text_of(json, "label");
    image->confidence = json_real_value(json_object_get(json, "confidence"));
    image->note = text_of(json, "note");
    image->width = (int32_t)number_of(json, "width");
    image->height = (int32_t)number_of(json, "height");
    image->format = text_of(json, "format");
    image->bytes = number_of(json, "bytes");
    image->views = number_of(json, "views");
    image->sealed = json_is_true(json_object_get(json, "sealed"));
    image->created_at = text_of(json, "created_at");
    image->n_tags = json_array_size(tags);
    image->tags = xcalloc(image->n_tags + 1, sizeof(void *));
    for (size_t i = 0; i < image->n_tags; i++)
        image->tags[i] = tag_new(json_array_get(tags, i));
    return image;
}

static void image_free(Darkroom__V1__StoredImage *image)
{
    for (size_t i = 0; i < image->n_tags; i++)
        free(image->tags[i]);
    free(image->tags);
    free(image);
}

/* Takes the JSON. */
static struct reply reply_image(const struct request *req, json_t *json)
{
    Darkroom__V1__StoredImage *image = image_new(json);
    struct reply reply = grpc_reply(req, &image->base);

    image_free(image);
    json_decref(json);
    return reply;
}

/* ---- the list ---- */

/* Takes the JSON. */
static struct reply reply_page(const struct request *req, json_t *images, int64_t next)
{
    Darkroom__V1__ListResponse out = DARKROOM__V1__LIST_RESPONSE__INIT;

    out.next = next;
    out.n_images = json_array_size(images);
    out.images = xcalloc(out.n_images + 1, sizeof(void *));
    for (size_t i = 0; i < out.n_images; i++)
        out.images[i] = image_new(json_array_get(images, i));
    struct reply reply = grpc_reply(req, &out.base);
    for (size_t i = 0; i < out.n_images; i++)
        image_free(out.images[i]);
    free(out.images);
    json_decref(images);
    return reply;
}

static const char *text_or_any(const char *text)
{
    return *text != '\0' ? text : NULL;
}

struct reply handle_grpc_list(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    json_t *images = NULL;
    int64_t next = 0;
    struct error err = {0};

    if (!grpc_message_read(&darkroom__v1__list_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const Darkroom__V1__ListRequest *in = (const Darkroom__V1__ListRequest *)m.message;
    const struct catalogue_filter filter = {
        .label = text_or_any(in->label),
        .tag = text_or_any(in->tag),
        .owner = text_or_any(in->owner),
        .before = in->before,
        .limit = in->limit,
    };
    if (!pictures_list(app, &req->context, &filter, &images, &next, &err))
        return reply_error(&err);
    return reply_page(req, images, next);
}

/* ---- one image ---- */

struct reply handle_grpc_get(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    json_t *image = NULL;
    struct error err = {0};

    if (!grpc_message_read(&darkroom__v1__get_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const Darkroom__V1__GetRequest *in = (const Darkroom__V1__GetRequest *)m.message;
    return pictures_get(app, &req->context, in->id, &image, &err) ? reply_image(req, image)
                                                                  : reply_error(&err);
}

/* NULL: not UTF-8. */
static json_t *tags_new(const Darkroom__V1__ChangeRequest__Tags *in)
{
    json_t *tags = json_array();

    for (size_t i = 0; i < in->n_tags; i++)
        if (json_array_append_new(tags, json_string(in->tags[i])) != 0) {
            json_decref(tags);
            return NULL;
        }
    return tags;
}

struct reply handle_grpc_change(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    struct catalogue_change change = {0};
    json_t *image = NULL;
    struct error err = {0};

    if (!grpc_message_read(&darkroom__v1__change_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const Darkroom__V1__ChangeRequest *in = (const Darkroom__V1__ChangeRequest *)m.message;
    if (in->note_change_case == DARKROOM__V1__CHANGE_REQUEST__NOTE_CHANGE_NOTE)
        change.note = in->note;
    change.tags = in->tags != NULL ? tags_new(in->tags) : NULL;
    bool ok = ((in->tags == NULL || change.tags != NULL) &&
               (change.note == NULL || string_is_utf8(bytes_from_str(change.note)))) ||
              error_set(&err, ERROR_BAD_REQUEST, "tags or note: not UTF-8");
    ok = ok && pictures_change(app, &req->context, in->id, &change, &image, &err);
    json_decref(change.tags);
    return ok ? reply_image(req, image) : reply_error(&err);
}

struct reply handle_grpc_delete(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    const Darkroom__V1__DeleteResponse out = DARKROOM__V1__DELETE_RESPONSE__INIT;
    struct error err = {0};

    if (!grpc_message_read(&darkroom__v1__delete_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const Darkroom__V1__DeleteRequest *in = (const Darkroom__V1__DeleteRequest *)m.message;
    return pictures_delete(app, &req->context, in->id, &err) ? grpc_reply(req, &out.base)
                                                             : reply_error(&err);
}
