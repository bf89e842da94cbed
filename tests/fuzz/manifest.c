/* A model's manifest, a line "----", and the labels' file. */
#include "model/manifest.h"
#include "fuzz.h"

#include <math.h>

static char folder[] = "/tmp/fuzz_manifest.XXXXXX";
static char manifest_path[64], labels_path[64];

static void remove_folder(void)
{
    unlink(manifest_path);
    unlink(labels_path);
    rmdir(folder);
}

static void start(void)
{
    FUZZ_CHECK(mkdtemp(folder) != NULL);
    snprintf(manifest_path, sizeof(manifest_path), "%s/m.json", folder);
    snprintf(labels_path, sizeof(labels_path), "%s/labels.txt", folder);
    atexit(remove_folder);
}

static void write_file(const char *path, struct bytes data)
{
    CLEANUP_FCLOSE FILE *f = fopen(path, "we");

    FUZZ_CHECK(f != NULL);
    if (data.len > 0)
        FUZZ_CHECK(fwrite(data.data, 1, data.len, f) == data.len);
}

/* Of either kind. */
static void check_manifest(const struct manifest *m)
{
    const struct image_tensor_spec *in = &m->input;

    FUZZ_CHECK(*m->name != '\0' && strpbrk(m->name, "/?#% ") == NULL);
    FUZZ_CHECK(string_starts_with(m->file, folder) && string_is_sha256_hex(m->sha256));
    FUZZ_CHECK(*m->input_tensor != '\0' && *m->output_tensor != '\0');
    FUZZ_CHECK(in->width >= 1 && in->width <= 4096 && in->height >= 1 && in->height <= 4096);
    for (int i = 0; i < 3; i++) /* the tensor is made of these */
        FUZZ_CHECK(isfinite(in->mean[i]) && isfinite(in->std[i]) && in->std[i] > 0);
    FUZZ_CHECK(m->drop_first >= 0);
    if (m->kind == MANIFEST_MASK) {
        FUZZ_CHECK(m->label_count == 0 && !m->softmax);
        return;
    }
    FUZZ_CHECK(in->short_side >= in->width && in->short_side >= in->height);
    FUZZ_CHECK(m->label_count >= 1 && m->label_count <= MANIFEST_LABELS_MAX);
    for (size_t i = 0; i < m->label_count; i++)
        FUZZ_CHECK(string_is_utf8(bytes_from_str(m->labels[i])) &&
                   strpbrk(m->labels[i], "\r\n") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct manifest empty;
    struct bytes labels = bytes_of(data, size);
    struct bytes json = fuzz_until(&labels, "\n----\n");
    struct manifest m;
    struct error err = {0};

    /* nothing but our two files is to be opened */
    if (json.len > 0 && (memmem(json.data, json.len, "..", 2) != NULL ||
                         memmem(json.data, json.len, "\\u", 2) != NULL))
        return 0;
    if (*manifest_path == '\0')
        start();
    write_file(manifest_path, json);
    write_file(labels_path, labels);
    for (int kind = MANIFEST_CLASSIFIER; kind <= MANIFEST_MASK; kind++) {
        if (manifest_read(manifest_path, (enum manifest_kind)kind, &m, &err)) {
            check_manifest(&m);
            manifest_done(&m);
        } else {
            FUZZ_CHECK_ERROR(&err, ERROR_CONFIG);
        }
        FUZZ_CHECK(memcmp(&m, &empty, sizeof(m)) == 0);
    }
    return 0;
}
