#include "image/internal.h"

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

static struct {
    pthread_once_t once;
    bool hevc_decoder, av1_decoder, av1_encoder;
} heif = {.once = PTHREAD_ONCE_INIT};

static void ignore_message(const char *domain, GLogLevelFlags level, const char *text, void *data)
{
    (void)domain, (void)level, (void)text, (void)data;
}

/* Debian's libvips has most formats built in and some in modules, of which HEIF is the only one
 * wanted. VIPSHOME pointing nowhere spares start-up the loading of all of them (18 ms). */
bool image_start(const char *program, struct error *err)
{
    if (setenv("VIPSHOME", "/nonexistent", 1) != 0)
        return error_oom(err);
    if (vips_init(program) != 0)
        return image_vips_failed(err, ERROR_INTERNAL, "libvips does not start");
    /* its warnings are about peculiarities of images, and it would write them to stderr */
    g_log_set_handler("VIPS", G_LOG_LEVEL_MASK, ignore_message, NULL);
    vips_block_untrusted_set(TRUE);
    vips_concurrency_set(1);
    vips_cache_set_max(0);
#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
    /* Up to 8.14 vectors are liborc's, which compiles code at run time and, in Debian 12's version,
     * frees it without a lock: two workers crash in orc_code_free. Later ones use highway. */
    vips_vector_set_enabled(FALSE);
#endif
    return true;
}

void image_stop(void)
{
    vips_shutdown();
}

void image_thread_done(void)
{
    vips_thread_shutdown();
}

/* libgmodule comes with libvips but is not linked to. Never unloaded: it registers types. */
static void open_heif_module(void)
{
    GModule *(*open_module)(const char *, GModuleFlags);
    void *symbol = dlsym(RTLD_DEFAULT, "vips_init");
    Dl_info info;
    const char *slash;
    char path[4096];

    if (symbol == NULL || dladdr(symbol, &info) == 0)
        return;
    slash = strrchr(info.dli_fname, '/');
    symbol = dlsym(RTLD_DEFAULT, "g_module_open");
    if (slash == NULL || symbol == NULL)
        return;
    memcpy(&open_module, &symbol, sizeof(symbol));
    snprintf(path, sizeof(path), "%.*s/vips-modules-%d.%d/vips-heif.so",
             (int)(slash - info.dli_fname), info.dli_fname, vips_version(0), vips_version(1));
    open_module(path, G_MODULE_BIND_LAZY);
}

/* Debian 13's libheif has its codecs in plugins, which it loads here at the latest. */
static void load_heif_plugins(void)
{
    struct {
        int code, subcode;
        const char *message;
    } (*init)(void *);
    void *symbol = dlsym(RTLD_DEFAULT, "heif_init");

    if (symbol == NULL)
        return;
    memcpy(&init, &symbol, sizeof(symbol));
    (void)init(NULL);
}

static bool heif_has(const char *function, int codec)
{
    int (*has)(int);
    void *symbol = dlsym(RTLD_DEFAULT, function);

    if (symbol == NULL)
        return false;
    memcpy(&has, &symbol, sizeof(symbol));
    return has(codec) != 0;
}

static void heif_init(void)
{
    if (vips_type_find("VipsOperation", "heifload_buffer") == 0)
        open_heif_module();
    if (vips_type_find("VipsOperation", "heifload_buffer") == 0)
        return;
    load_heif_plugins();
    heif.hevc_decoder = heif_has("heif_have_decoder_for_format", HEIF_HEVC);
    heif.av1_decoder = heif_has("heif_have_decoder_for_format", HEIF_AV1);
    heif.av1_encoder = heif_has("heif_have_encoder_for_format", HEIF_AV1) &&
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
