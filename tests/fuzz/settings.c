/* The environment: NAME=value lines. Names that are no settings are left out. */
#include "app/settings.h"
#include "fuzz.h"

enum { NAMES_MAX = 128 };

static char *names[NAMES_MAX];
static size_t name_count;
static char secret[] = "SeCrEt-VaLuE";

static void free_names(void)
{
    for (size_t i = 0; i < name_count; i++)
        free(names[i]);
}

/* As --help tells them. */
static void find_names(enum service_kind service)
{
    char *help = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&help, &size);

    FUZZ_CHECK(f != NULL);
    settings_print_help(service, f);
    fclose(f);
    struct bytes in = bytes_of(help, size);
    while (in.len > 0) {
        struct bytes line = fuzz_until(&in, "\n");
        fuzz_until(&line, "  ");
        FUZZ_CHECK(name_count < NAMES_MAX);
        names[name_count++] = fuzz_text(fuzz_until(&line, " "));
    }
    free(help);
}

static bool is_secret(const char *name)
{
    return strcmp(name, "PUSH_TOKEN") == 0 || string_starts_with(name, "AWS_");
}

/* The last one of a name holds, as in a real environment. */
static void set_environment(struct bytes in)
{
    for (size_t i = 0; i < name_count; i++)
        unsetenv(names[i]);
    unsetenv("K_SERVICE");
    while (in.len > 0) {
        CLEANUP_FREE char *line = fuzz_line(&in);
        char *equals = strchr(line, '=');
        if (equals == NULL)
            continue;
        *equals = '\0';
        bool known = strcmp(line, "K_SERVICE") == 0;
        for (size_t i = 0; i < name_count; i++)
            known = known || strcmp(line, names[i]) == 0;
        if (known)
            setenv(line, is_secret(line) && equals[1] != '\0' ? secret : equals + 1, 1);
    }
}

static void check_good(const struct settings *s)
{
    FUZZ_CHECK(s->port >= 1 && s->port <= 65535 && s->workers >= 1 && s->workers <= 1024);
    FUZZ_CHECK(s->max_body_bytes >= 1024 && s->max_body_bytes <= 1LL << 30);
    FUZZ_CHECK(s->max_connections >= 1 && s->max_inflight >= 1 && s->queue_max >= 1);
    FUZZ_CHECK(string_starts_with(s->storage_url, "file:") ||
               string_starts_with(s->storage_url, "s3://") ||
               string_starts_with(s->storage_url, "gs://"));
    FUZZ_CHECK(s->auth_audience == NULL ||
               (*s->auth_audience == '\0') == (*s->auth_emails == '\0'));
}

static bool load(enum service_kind service, struct buffer *description)
{
    struct settings s;
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(65536);
    struct error err = {0};

    bool ok = settings_load(service, &s, &mistakes);
    FUZZ_CHECK(ok == (mistakes.len == 0));
    FUZZ_CHECK(ok || mistakes.data[mistakes.len - 1] == '\n');
    FUZZ_CHECK(ok || memmem(mistakes.data, mistakes.len, secret, strlen(secret)) == NULL);
    if (ok) {
        check_good(&s);
        FUZZ_CHECK(settings_describe(service, &s, description, &err));
        FUZZ_CHECK(memmem(description->data, description->len, secret, strlen(secret)) == NULL);
        FUZZ_CHECK(memchr(description->data, '\n', description->len) == NULL);
    }
    settings_done(&s);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);

    if (name_count == 0) {
        find_names(SERVICE_PREPROCESS);
        find_names(SERVICE_CLASSIFY);
        atexit(free_names);
    }
    /* other values must not spell the secret */
    if (memmem(data, size, "SeCrEt", 6) != NULL)
        return 0;
    set_environment(in);
    for (enum service_kind service = SERVICE_PREPROCESS; service <= SERVICE_CLASSIFY; service++) {
        CLEANUP(buffer_done) struct buffer one = BUFFER_MAX(1 << 20);
        CLEANUP(buffer_done) struct buffer other = BUFFER_MAX(1 << 20);
        FUZZ_CHECK(load(service, &one) == load(service, &other));
        FUZZ_CHECK(bytes_equal(buffer_view(&one), buffer_view(&other)));
    }
    return 0;
}
