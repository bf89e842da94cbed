#include "commands.h"

#include "accounts.h"
#include "app/outgoing.h"
#include "base/log.h"
#include "catalogue/catalogue.h"

#include <string.h>

enum { WALK_MS = 6 * 3600 * 1000, CALL_MS = 60000 };

struct world {
    struct settings settings;
    struct outgoing outgoing;
    struct store_options options;
    struct store *store;
    struct catalogue *catalogue; /* NULL: CATALOGUE_URL=none: */
    struct users *users;         /* NULL: USERS=off */
};

static bool open_world(struct world *w, struct error *err)
{
    const char *url = w->settings.catalogue_url;

    if (!outgoing_open(&w->settings, NULL, &w->outgoing, err) ||
        (w->store = storage_open(&w->settings, &w->outgoing, &w->options, err)) == NULL)
        return false;
    if (strcmp(url, "none:") == 0)
        return true;
    if (w->settings.users && (w->users = accounts_open(&w->settings, NULL, err)) == NULL)
        return false;
    w->catalogue = catalogue_open(&(struct catalogue_options){.url = url,
                                                              .store = w->store,
                                                              .had_account = accounts_had,
                                                              .had_account_ctx = w->users},
                                  err);
    return w->catalogue != NULL || error_wrap(err, "CATALOGUE_URL");
}

static void world_done(struct world *w)
{
    catalogue_close(w->catalogue);
    users_close(w->users);
    store_free(w->store);
    outgoing_done(&w->outgoing);
    settings_done(&w->settings);
}

/* ---- --catalogue rebuild */

static bool rebuild(struct world *w, struct error *err)
{
    struct catalogue_rebuilt rebuilt;

    if (w->catalogue == NULL)
        return error_set(err, ERROR_CONFIG, "CATALOGUE_URL is none:");
    if (!catalogue_rebuild(w->catalogue, &rebuilt, err))
        return error_wrap(err, "CATALOGUE_URL");
    printf("%lld added, %lld removed\n", (long long)rebuilt.added, (long long)rebuilt.removed);
    return true;
}

/* ---- --seal rotate */

struct rotation {
    struct world *world;
    size_t changed, kept, damaged;
    bool ok;
    struct error err;
};

/* What is deleted while it is written again is deleted again. What has no row stays: the upload may
 * not be listed yet, or the catalogue is another one. */
static bool reseal(struct world *w, const char *key, bool *changed, struct error *err)
{
    const int64_t deadline_ms = clock_monotonic_ms() + CALL_MS;
    enum catalogue_state before = CATALOGUE_NO_ROW;
    struct object_name name;
    const bool named = object_name_parse(key + strlen(store_prefix(w->store)), &name);

    if (w->catalogue != NULL && named &&
        !catalogue_state(w->catalogue, name.id, &before, deadline_ms, err))
        return false;
    return before == CATALOGUE_BEING_DELETED ||
           (store_reseal(w->store, key, deadline_ms, changed, err) &&
            (!*changed || before != CATALOGUE_LISTED ||
             catalogue_delete_unlisted(w->catalogue, &name, deadline_ms, err)));
}

/* A damaged object keeps no other from the new key. */
static bool rotate_one(void *ctx, const char *key, uint64_t size)
{
    struct rotation *r = ctx;
    bool changed = false;

    (void)size;
    r->ok = reseal(r->world, key, &changed, &r->err);
    if (!r->ok && r->err.code == ERROR_NOT_FOUND)
        return r->ok = true;
    if (!r->ok && r->err.code == ERROR_INTERNAL) {
        log_error("a sealed object keeps its key", F("key", key),
                  F("error", (const char *)r->err.message));
        r->damaged++;
        return r->ok = true;
    }
    r->changed += r->ok && changed;
    r->kept += r->ok && !changed;
    return r->ok || error_wrap(&r->err, "%s", key);
}

static bool rotate(struct world *w, struct error *err)
{
    char prefix[STORE_KEY_MAX + 1];
    struct rotation r = {.world = w, .ok = true};

    if (*w->settings.seal_keys_file == '\0')
        return error_set(err, ERROR_CONFIG, "SEAL_KEYS_FILE is not set");
    snprintf(prefix, sizeof(prefix), "%s" STORE_SEALED, store_prefix(w->store));
    if (!store_list(w->store, prefix, clock_monotonic_ms() + WALK_MS, rotate_one, &r, err))
        return false;
    printf("%zu for the newest key now, %zu were already\n", r.changed, r.kept);
    if (!r.ok)
        *err = r.err;
    else if (r.damaged > 0)
        r.ok =
            error_set(err, ERROR_INTERNAL, "%zu sealed objects are damaged: see above", r.damaged);
    return r.ok;
}

/* ---- the table */

static const struct command {
    const char *option, *verb, *help;
    bool (*run)(struct world *world, struct error *err);
} commands[] = {
    {"--catalogue", "rebuild",
     "make the list match the store: add what is missing, remove what is gone", rebuild},
    {"--seal", "rotate", "encrypt the keys of sealed objects for the newest key", rotate},
};

/* ARRAY_SIZE(commands): it is none. */
static size_t command_of(int argc, char **argv)
{
    size_t i = 0;

    while (i < ARRAY_SIZE(commands) && (argc < 2 || strcmp(argv[1], commands[i].option) != 0))
        i++;
    return i;
}

bool is_store_command(int argc, char **argv)
{
    return command_of(argc, argv) < ARRAY_SIZE(commands);
}

int store_command(int argc, char **argv)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(16384);
    CLEANUP(world_done) struct world world = {0};
    const struct command *command = &commands[command_of(argc, argv)];
    struct error err = {0};

    log_init_command("preprocess-service");
    if (!settings_load(SERVICE_PREPROCESS, &world.settings, &mistakes)) {
        fprintf(stderr, "%.*s", (int)mistakes.len, (const char *)mistakes.data);
        return 2;
    }
    if (argc != 3 || strcmp(argv[2], command->verb) != 0) {
        fprintf(stderr, "Usage: preprocess-service %s %s\n  %-8s %s\nThe service may be running.\n",
                command->option, command->verb, command->verb, command->help);
        return 2;
    }
    if (open_world(&world, &err) && command->run(&world, &err))
        return 0;
    fprintf(stderr, "preprocess-service: %s\n", err.message);
    return 1;
}
