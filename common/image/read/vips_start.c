#include "image/private.h"

#include <dlfcn.h>
#include <gmodule.h>
#include <pthread.h>
#include <string.h>
#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
#include <vips/vector.h>
#endif

/* libheif's numbers for codecs (enum heif_compression_format); its header is not needed for more.
 */
enum { HEIF_HEVC = 1, HEIF_AV1 = 4 };

struct vips_api image_vips;

static struct {
    pthread_once_t once;
    void *library; /* never unloaded: it registers types */
    atomic_bool started;
} vips = {.once = PTHREAD_ONCE_INIT};

static struct {
    pthread_once_t once;
    bool hevc_decoder, av1_decoder, av1_encoder;
} heif = {.once = PTHREAD_ONCE_INIT};

/* The address of a function into a pointer to such a function, which ISO C does not convert. */
static bool find(void *library, const char *name, void *pointer)
{
    void *symbol = dlsym(library, name);

    memcpy(pointer, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static void ignore_message(const char *domain, GLogLevelFlags level, const char *text, void *data)
{
    (void)domain, (void)level, (void)text, (void)data;
}

/* Up to 8.14 vectors are liborc's, which compiles code at run time and, in Debian 12's version,
 * frees it without a lock: two workers crash in orc_code_free. Later ones use highway. */
static bool disable_liborc(void)
{
#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
    __typeof__(vips_vector_set_enabled) *set_enabled;

    if (!find(vips.library, "vips_vector_set_enabled", &set_enabled))
        return false;
    set_enabled(FALSE);
#endif
    return true;
}

static void load_vips(void)
{
    static const char soname[] = "libvips.so.42"; /* of all versions 8 */

    vips.library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (vips.library == NULL)
        return;
#define FIND(name) find(vips.library, #name, &image_vips.name##_) &&
    if (!(VIPS_FUNCTIONS(FIND) true))
        return;
#undef FIND
    if (vips_init("darkroom") != 0 || !disable_liborc())
        return;
    /* its warnings are about peculiarities of images, and it would write them to stderr */
    g_log_set_handler("VIPS", G_LOG_LEVEL_MASK, ignore_message, NULL);
    vips_block_untrusted_set(TRUE);
    vips_concurrency_set(1);
    vips_cache_set_max(0);
    atomic_store(&vips.started, true);
}

bool image_vips_start(struct error *err)
{
    pthread_once(&vips.once, load_vips);
    return atomic_load(&vips.started) ||
           error_set(err, ERROR_INTERNAL, "libvips (libvips.so.42) cannot be loaded");
}

/* Debian's libvips has most formats built in and some in modules, of which HEIF is the only one
 * wanted. VIPSHOME pointing nowhere spares its start the loading of all of them (18 ms). */
bool image_start(struct error *err)
{
    return setenv("VIPSHOME", "/nonexistent", 1) == 0 || error_oom(err);
}

void image_stop(void)
{
    if (atomic_load(&vips.started))
        vips_shutdown();
}

void image_thread_done(void)
{
    if (atomic_load(&vips.started))
        vips_thread_shutdown();
}

/* libgmodule comes with libvips. */
static void open_heif_module(void)
{
    GModule *(*open_module)(const char *, GModuleFlags);
    Dl_info info;
    const char *slash;
    char path[4096];

    if (dladdr(dlsym(vips.library, "vips_init"), &info) == 0 ||
        !find(vips.library, "g_module_open", &open_module))
        return;
    slash = strrchr(info.dli_fname, '/');
    if (slash == NULL)
        return;
    snprintf(path, sizeof(path), "%.*s/vips-modules-%d.%d/vips-heif.so",
             (int)(slash - info.dli_fname), info.dli_fname, vips_version(0), vips_version(1));
    open_module(path, G_MODULE_BIND_LAZY);
}

/* Debian 13's libheif has its codecs in plugins, which it loads here at the latest. */
static void load_heif_plugins(void *libheif)
{
    struct {
        int code, subcode;
        const char *message;
    } (*init)(void *);

    if (find(libheif, "heif_init", &init))
        (void)init(NULL);
}

static bool heif_has(void *libheif, const char *function, int codec)
{
    int (*has)(int);

    return find(libheif, function, &has) && has(codec) != 0;
}

static void heif_init(void)
{
    struct error ignored;
    void *libheif;

    if (!image_vips_start(&ignored))
        return;
    if (vips_type_find("VipsOperation", "heifload_buffer") == 0)
        open_heif_module();
    if (vips_type_find("VipsOperation", "heifload_buffer") == 0)
        return;
    libheif = dlopen("libheif.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (libheif == NULL)
        return;
    load_heif_plugins(libheif);
    heif.hevc_decoder = heif_has(libheif, "heif_have_decoder_for_format", HEIF_HEVC);
    heif.av1_decoder = heif_has(libheif, "heif_have_decoder_for_format", HEIF_AV1);
    heif.av1_encoder = heif_has(libheif, "heif_have_encoder_for_format", HEIF_AV1) &&
                       vips_type_find("VipsOperation", "heifsave_buffer") != 0;
}

bool image_can_decode(enum image_format format)
{
    if (format != IMAGE_HEIC && format != IMAGE_AVIF)
        return true;
    pthread_once(&heif.once, heif_init);
    return format == IMAGE_HEIC ? heif.hevc_decoder : heif.av1_decoder;
}

bool image_can_encode(enum image_format format)
{
    if (format != IMAGE_AVIF)
        return true;
    pthread_once(&heif.once, heif_init);
    return heif.av1_encoder;
}

void image_preload(void)
{
    struct error ignored;

    if (image_vips_start(&ignored))
        (void)image_can_encode(IMAGE_AVIF);
}

bool image_cancelled_check(const atomic_bool *cancelled, struct error *err)
{
    if (cancelled != NULL && atomic_load_explicit(cancelled, memory_order_relaxed))
        return error_set(err, ERROR_DEADLINE, "the image took too long");
    return true;
}

bool image_vips_failed(struct error *err, enum error_code code, const char *what)
{
    vips_error_clear();
    return error_set(err, code, "%s", what);
}
