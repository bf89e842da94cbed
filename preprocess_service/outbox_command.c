#include "commands.h"

#include "app/settings.h"
#include "events/outbox/outbox_admin.h"

#include <string.h>

static int usage(void)
{
    fputs("Usage: preprocess-service --outbox COMMAND [EVENT_ID]\n"
          "  list                undelivered events and dead letters\n"
          "  requeue [EVENT_ID]  deliver dead letters again (all, or one)\n"
          "  purge [EVENT_ID]    delete dead letters (all, or one)\n"
          "  reconcile           announce every stored image without a result again\n"
          "The outbox is OUTBOX_PATH's; the service may be running.\n",
          stderr);
    return 2;
}

static bool run(const char *path, const char *command, const char *event_id, bool *known,
                struct error *err)
{
    int64_t count = 0;

    *known = true;
    if (strcmp(command, "list") == 0 && event_id == NULL)
        return outbox_admin_list(path, stdout, err);
    if (strcmp(command, "reconcile") == 0 && event_id == NULL) {
        if (!outbox_admin_reconcile(path, err))
            return false;
        puts("reconciliation is requested: the service does it now, or when it starts");
        return true;
    }
    bool requeue = strcmp(command, "requeue") == 0;
    *known = requeue || strcmp(command, "purge") == 0;
    if (!*known || !(requeue ? outbox_admin_requeue(path, event_id, &count, err)
                             : outbox_admin_purge(path, event_id, &count, err)))
        return false;
    printf("%lld %s\n", (long long)count, requeue ? "requeued" : "purged");
    return true;
}

int outbox_command(int argc, char **argv)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(16384);
    CLEANUP(settings_done) struct settings settings;
    struct error err = {0};
    bool known = false;

    if (!settings_load(SERVICE_PREPROCESS, &settings, &mistakes)) {
        fprintf(stderr, "%.*s", (int)mistakes.len, (const char *)mistakes.data);
        return 2;
    }
    if (argc < 3 || argc > 4)
        return usage();
    if (run(settings.outbox_path, argv[2], argv[3], &known, &err))
        return 0;
    if (!known)
        return usage();
    fprintf(stderr, "preprocess-service: %s\n", err.message);
    return 1;
}
