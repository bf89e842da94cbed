#include "model/model.h"

#include "base/log.h"
#include "base/threads.h"
#include "base/xmalloc.h"

#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <onnxruntime_c_api.h>
#include <string.h>
#include <sys/stat.h>

enum { MODEL_FILE_MAX = 1024 * 1024 * 1024 };

struct model {
    const OrtApi *ort;
    struct manifest manifest;
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
};

struct model_tensors {
    const OrtApi *ort;
    float *input;
    float *output;
    OrtValue *input_value;
    OrtValue *output_value;
};

/* Loaded, not linked: a program that may never need it starts without it. Kept until the process
 * ends. */
static const OrtApi *load_onnxruntime(struct error *err)
{
    static const char library[] = "libonnxruntime.so.1";
    const OrtApiBase *(*api_base)(void) = NULL;
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

    if (handle != NULL)
        *(void **)&api_base = dlsym(handle, "OrtGetApiBase");
    if (api_base == NULL) {
        error_set(err, ERROR_CONFIG, "%s cannot be loaded: %s", library, dlerror());
        return NULL;
    }
    const OrtApi *api = api_base()->GetApi(ORT_API_VERSION);
    if (api == NULL)
        error_set(err, ERROR_CONFIG, "%s is older than this program needs", library);
    return api;
}

/* Take a status: true when it is none. */
static bool check(const struct model *m, OrtStatus *status, enum error_code code, struct error *err)
{
    if (status == NULL)
        return true;
    error_set(err, code, "ONNX Runtime: %s", m->ort->GetErrorMessage(status));
    m->ort->ReleaseStatus(status);
    return false;
}

static void ORT_API_CALL log_ort(void *ctx, OrtLoggingLevel severity, const char *category,
                                 const char *id, const char *location, const char *message)
{
    (void)ctx;
    (void)severity;
    (void)id;
    log_warning(message, F("library", "onnxruntime"), F("category", category),
                F("location", location));
}

static bool read_file(const char *path, struct buffer *out, struct error *err)
{
    CLEANUP_FCLOSE FILE *f = fopen(path, "re");
    struct stat st;

    if (f == NULL || fstat(fileno(f), &st) != 0)
        return error_set(err, ERROR_CONFIG, "%s: %s (`make model` makes the usual one)", path,
                         strerror(errno));
    if (!buffer_reserve(out, (size_t)st.st_size, err))
        return error_wrap(err, "%s", path);
    out->len = fread(out->data, 1, (size_t)st.st_size, f);
    return out->len == (size_t)st.st_size ||
           error_set(err, ERROR_CONFIG, "%s: cannot be read", path);
}

static bool verify(const struct manifest *manifest, struct bytes data, struct error *err)
{
    char hex[SHA256_HEX_LEN + 1];

    return string_sha256_hex(&data, 1, hex, err) &&
           (strcmp(hex, manifest->sha256) == 0 ||
            error_set(
                err, ERROR_CONFIG,
                "%s: its sha256 is %s, not the manifest's (`make model` gets the usual one again)",
                manifest->file, hex));
}

/* The model's bytes, read and hashed while ONNX Runtime starts, which takes longer. Not the other
 * way round: its thousand small blocks would come from an arena of the thread, which glibc grows
 * page by page, with a call to the kernel for each. */
struct model_file {
    const struct manifest *manifest;
    struct buffer data;
    pthread_t thread;
    struct error err;
    bool ok;
};

static void *get_file(void *arg)
{
    struct model_file *file = arg;

    file->ok = read_file(file->manifest->file, &file->data, &file->err) &&
               verify(file->manifest, buffer_view(&file->data), &file->err);
    return NULL;
}

/* Workers are the parallelism: one thread per Run, and none that spins. */
static bool make_session(struct model *m, struct bytes data, struct error *err)
{
    const OrtApi *ort = m->ort;
    OrtSessionOptions *options = NULL;

    bool ok =
        check(m, ort->CreateSessionOptions(&options), ERROR_CONFIG, err) &&
        check(m, ort->SetIntraOpNumThreads(options, 1), ERROR_CONFIG, err) &&
        check(m, ort->SetInterOpNumThreads(options, 1), ERROR_CONFIG, err) &&
        check(m, ort->SetSessionExecutionMode(options, ORT_SEQUENTIAL), ERROR_CONFIG, err) &&
        check(m, ort->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL), ERROR_CONFIG,
              err) &&
        (m->manifest.kind == MANIFEST_CLASSIFIER || /* else two runs at a time keep 100 MB more */
         check(m, ort->DisableMemPattern(options), ERROR_CONFIG, err)) &&
        check(m, ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"),
              ERROR_CONFIG, err) &&
        check(m, ort->CreateSessionFromArray(m->env, data.data, data.len, options, &m->session),
              ERROR_CONFIG, err) &&
        check(m, ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &m->memory),
              ERROR_CONFIG, err);
    if (options != NULL)
        ort->ReleaseSessionOptions(options);
    return ok;
}

/* The output tensor's shape, as Run expects it. Returns the number of dimensions. */
static size_t output_shape(const struct manifest *manifest, int64_t ret[4])
{
    const struct image_tensor_spec *in = &manifest->input;

    ret[0] = ret[1] = 1;
    if (manifest->kind == MANIFEST_CLASSIFIER) {
        ret[1] = (int64_t)manifest_output_count(manifest);
        return 2;
    }
    ret[2] = in->height;
    ret[3] = in->width;
    return 4;
}

/* Floats in the shape that the tensors are made for. */
static bool check_output(struct model *m, const OrtTensorTypeAndShapeInfo *shape, struct error *err)
{
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t dimensions = 0;
    int64_t sizes[4] = {0}, wanted[4];
    const bool rows = m->manifest.kind == MANIFEST_CLASSIFIER;

    if (!check(m, m->ort->GetTensorElementType(shape, &type), ERROR_CONFIG, err) ||
        !check(m, m->ort->GetDimensionsCount(shape, &dimensions), ERROR_CONFIG, err) ||
        !check(m, m->ort->GetDimensions(shape, sizes, dimensions < 4 ? dimensions : 4),
               ERROR_CONFIG, err))
        return false;
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ||
        dimensions != output_shape(&m->manifest, wanted) || sizes[0] != 1)
        return error_set(err, ERROR_CONFIG, "the model's output is not one %s of floats",
                         rows ? "row" : "map");
    if (rows && sizes[1] != wanted[1])
        return error_set(err, ERROR_CONFIG, "the model has %zu outputs, but there are %zu labels",
                         (size_t)sizes[1], (size_t)wanted[1]);
    return memcmp(sizes, wanted, dimensions * sizeof(*sizes)) == 0 ||
           error_set(err, ERROR_CONFIG, "the model's output is not of its input's size");
}

/* A wrong tensor name or shape shows on the first run: make it now. */
static bool try_output(struct model *m, struct error *err)
{
    const OrtApi *ort = m->ort;
    struct model_tensors *t = model_tensors_new(m, err);
    OrtTensorTypeAndShapeInfo *shape = NULL;
    OrtValue *output = NULL;
    const char *const in = m->manifest.input_tensor;
    const char *const out = m->manifest.output_tensor;

    if (t == NULL)
        return false;
    const OrtValue *input = t->input_value;
    bool ok =
        check(m, ort->Run(m->session, NULL, &in, &input, 1, &out, 1, &output), ERROR_CONFIG, err) &&
        check(m, ort->GetTensorTypeAndShape(output, &shape), ERROR_CONFIG, err) &&
        check_output(m, shape, err);
    if (shape != NULL)
        ort->ReleaseTensorTypeAndShapeInfo(shape);
    if (output != NULL)
        ort->ReleaseValue(output);
    model_tensors_free(t);
    return ok;
}

static bool load(struct model *m, struct model_file *file, struct error *err)
{
    m->ort = load_onnxruntime(err);
    if (m->ort == NULL || !thread_start(&file->thread, get_file, file, err))
        return false;
    bool ok = check(m,
                    m->ort->CreateEnvWithCustomLogger(log_ort, NULL, ORT_LOGGING_LEVEL_WARNING,
                                                      "model", &m->env),
                    ERROR_CONFIG, err);
    pthread_join(file->thread, NULL);
    if (!file->ok) {
        *err = file->err;
        return false;
    }
    return ok && make_session(m, buffer_view(&file->data), err) && try_output(m, err);
}

struct model *model_open(const char *manifest_path, enum manifest_kind kind, struct error *err)
{
    struct model *m = xcalloc(1, sizeof(*m));
    struct model_file file = {.manifest = &m->manifest, .data = BUFFER_MAX(MODEL_FILE_MAX)};
    bool ok = manifest_read(manifest_path, kind, &m->manifest, err) && load(m, &file, err);
    buffer_done(&file.data);
    if (ok)
        return m;
    model_free(m);
    return NULL;
}

void model_free(struct model *m)
{
    if (m == NULL)
        return;
    if (m->memory != NULL)
        m->ort->ReleaseMemoryInfo(m->memory);
    if (m->session != NULL)
        m->ort->ReleaseSession(m->session);
    if (m->env != NULL)
        m->ort->ReleaseEnv(m->env);
    manifest_done(&m->manifest);
    free(m);
}

const struct manifest *model_manifest(const struct model *m)
{
    return &m->manifest;
}

static bool wrap(const struct model *m, float *data, size_t count, const int64_t *shape,
                 size_t dimensions, OrtValue **ret, struct error *err)
{
    return check(m,
                 m->ort->CreateTensorWithDataAsOrtValue(m->memory, data, count * sizeof(float),
                                                        shape, dimensions,
                                                        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ret),
                 ERROR_CONFIG, err);
}

struct model_tensors *model_tensors_new(const struct model *m, struct error *err)
{
    const struct image_tensor_spec *spec = &m->manifest.input;
    int64_t nchw[] = {1, 3, spec->height, spec->width};
    int64_t nhwc[] = {1, spec->height, spec->width, 3};
    int64_t out[4];
    size_t dimensions = output_shape(&m->manifest, out);
    size_t inputs = manifest_input_count(&m->manifest);
    size_t outputs = manifest_output_count(&m->manifest);
    struct model_tensors *t = xcalloc(1, sizeof(*t));

    t->ort = m->ort;
    t->input = calloc(inputs, sizeof(float));
    t->output = calloc(outputs, sizeof(float));
    if (t->input == NULL || t->output == NULL) {
        error_oom(err);
    } else if (wrap(m, t->input, inputs, spec->nchw ? nchw : nhwc, 4, &t->input_value, err) &&
               wrap(m, t->output, outputs, out, dimensions, &t->output_value, err)) {
        return t;
    }
    model_tensors_free(t);
    return NULL;
}

void model_tensors_free(struct model_tensors *t)
{
    if (t == NULL)
        return;
    if (t->input_value != NULL)
        t->ort->ReleaseValue(t->input_value);
    if (t->output_value != NULL)
        t->ort->ReleaseValue(t->output_value);
    free(t->input);
    free(t->output);
    free(t);
}

float *model_input(struct model_tensors *t)
{
    return t->input;
}

static void softmax(float *x, size_t n)
{
    float max = x[0], sum = 0;

    for (size_t i = 1; i < n; i++)
        max = fmaxf(max, x[i]);
    for (size_t i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - max);
    for (size_t i = 0; i < n; i++)
        x[i] /= sum;
}

bool model_run(const struct model *m, struct model_tensors *t, const float **scores,
               struct error *err)
{
    const char *const in = m->manifest.input_tensor;
    const char *const out = m->manifest.output_tensor;
    const OrtValue *input = t->input_value;

    if (!check(m, m->ort->Run(m->session, NULL, &in, &input, 1, &out, 1, &t->output_value),
               ERROR_INTERNAL, err))
        return false;
    if (m->manifest.softmax)
        softmax(t->output, manifest_output_count(&m->manifest));
    *scores = t->output + m->manifest.drop_first;
    return true;
}
