#include "catalogue_command.h"

#include "app/outgoing.h"
#include "catalogue/catalogue.h"

#include <string.h>

static int usage(void)
{
    fputs("Usage: preprocess-service --catalogue rebuild\n"
          "  rebuild  list what the store has, and nothing that it has not\n"
          "The catalogue is CATALOGUE_URL's; the service may be running.\n",
          stderr);
    return 2;
}

static void close_catalogue(struct catalogue **catalogue)
{
    catalogue_close(*catalogue);
}

static void close_store(struct store **store)
{
    store_free(*store);
}

static bool rebuild(const struct settings *s, struct error *err)
{
    CLEANUP(outgoing_done) struct outgoing outgoing = {0};
    CLEANUP(close_store) struct store *store = NULL;
    CLEANUP(close_catalogue) struct catalogue *catalogue = NULL;
    struct store_options options;
    struct catalogue_rebuilt rebuilt;

    if (strcmp(s->catalogue_url, "none:") == 0)
        return error_set(err, ERROR_CONFIG, "CATALOGUE_URL is none:");
    if (!outgoing_open(s, NULL, &outgoing, err) ||
        (store = storage_open(s, &outgoing, &options, err)) == NULL)
        return false;
    catalogue =
        catalogue_open(&(struct catalogue_options){.url = s->catalogue_url, .store = store}, err);
    if (catalogue == NULL || !catalogue_rebuild(catalogue, &rebuilt, err))
        return error_wrap(err, "CATALOGUE_URL");
    printf("%lld added, %lld removed\n", (long long)rebuilt.added, (long long)rebuilt.removed);
    return true;
}

int catalogue_command(int argc, char **argv)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(16384);
    CLEANUP(settings_done) struct settings settings;
    struct error err = {0};

    if (!settings_load(SERVICE_PREPROCESS, &settings, &mistakes)) {
        fprintf(stderr, "%.*s", (int)mistakes.len, (const char *)mistakes.data);
        return 2;
    }
    if (argc != 3 || strcmp(argv[2], "rebuild") != 0)
        return usage();
    if (rebuild(&settings, &err))
        return 0;
    fprintf(stderr, "preprocess-service: %s\n", err.message);
    return 1;
}
