#include "floor.h"
#include "model/manifest.h"
#include "program.h"

#include <onnxruntime_c_api.h>

enum { TENSORS = 8 };

struct engine {
    const OrtApi *ort;
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
    struct manifest manifest;
    size_t inputs, outputs;
};

struct tensors {
    const struct engine *engine;
    float *input[TENSORS], *output;
    OrtValue *in[TENSORS], *out;
};

static void check(const struct engine *e, OrtStatus *status)
{
    if (status != NULL)
        die("ONNX Runtime: %s", e->ort->GetErrorMessage(status));
}

static void open_session(struct engine *e)
{
    const OrtApi *ort = e->ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    OrtSessionOptions *options;

    check(e, ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "floor", &e->env));
    check(e, ort->CreateSessionOptions(&options));
    check(e, ort->SetIntraOpNumThreads(options, 1));
    check(e, ort->SetInterOpNumThreads(options, 1));
    check(e, ort->SetSessionExecutionMode(options, ORT_SEQUENTIAL));
    check(e, ort->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
    if (e->manifest.kind == MANIFEST_MASK)
        check(e, ort->DisableMemPattern(options));
    check(e, ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"));
    check(e, ort->CreateSession(e->env, e->manifest.file, options, &e->session));
    check(e, ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &e->memory));
    ort->ReleaseSessionOptions(options);
}

/* White noise around 0: what the values are changes nothing. */
static void fill(float *values, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525 + 1013904223;
        values[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
}

static OrtValue *wrap(const struct engine *e, float *data, size_t count, const int64_t *shape,
                      size_t dimensions)
{
    OrtValue *value;

    check(e, e->ort->CreateTensorWithDataAsOrtValue(e->memory, data, count * sizeof(float), shape,
                                                    dimensions, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                    &value));
    return value;
}

static void *begin(const void *ctx, int index)
{
    const struct engine *e = ctx;
    const struct image_tensor_spec *spec = &e->manifest.input;
    const int64_t nchw[] = {1, 3, spec->height, spec->width};
    const int64_t nhwc[] = {1, spec->height, spec->width, 3};
    const int64_t row[] = {1, (int64_t)e->outputs}, map[] = {1, 1, spec->height, spec->width};
    const bool mask = e->manifest.kind == MANIFEST_MASK;
    struct tensors *t = allocate(sizeof(*t));

    t->engine = e;
    for (int i = 0; i < TENSORS; i++) {
        t->input[i] = allocate(e->inputs * sizeof(float));
        fill(t->input[i], e->inputs, (unsigned)(index * TENSORS + i));
        t->in[i] = wrap(e, t->input[i], e->inputs, spec->nchw ? nchw : nhwc, 4);
    }
    t->output = allocate(e->outputs * sizeof(float));
    t->out = wrap(e, t->output, e->outputs, mask ? map : row, mask ? 4 : 2);
    return t;
}

static void step(void *state, size_t i)
{
    struct tensors *t = state;
    const char *const in = t->engine->manifest.input_tensor;
    const char *const out = t->engine->manifest.output_tensor;
    const OrtValue *input = t->in[i % TENSORS];

    check(t->engine,
          t->engine->ort->Run(t->engine->session, NULL, &in, &input, 1, &out, 1, &t->out));
}

static void end(void *state)
{
    struct tensors *t = state;

    for (int i = 0; i < TENSORS; i++) {
        t->engine->ort->ReleaseValue(t->in[i]);
        free(t->input[i]);
    }
    t->engine->ort->ReleaseValue(t->out);
    free(t->output);
    free(t);
}

struct floor_step floor_model_step(const char *manifest, bool mask)
{
    static struct engine e;
    struct error err;

    if (!manifest_read(manifest, mask ? MANIFEST_MASK : MANIFEST_CLASSIFIER, &e.manifest, &err))
        die("%s", err.message);
    e.inputs = manifest_input_count(&e.manifest);
    e.outputs = manifest_output_count(&e.manifest);
    open_session(&e);
    return (struct floor_step){begin, step, end, &e};
}
