#include "commands.h"

#include "accounts.h"
#include "base/clock.h"
#include "users/password.h"

#include <string.h>

enum { CALL_MS = 60000 };

static int usage(void)
{
    fputs("Usage: preprocess-service --users list | add NAME | password NAME | delete NAME | "
          "rotate-keys\n"
          "  list         the accounts\n"
          "  add          make one, also one that ADMINS names; the password is a line of stdin\n"
          "  password     give it a new password, a line of stdin; its tokens are void\n"
          "  delete       its tokens are void; its pictures stay\n"
          "  rotate-keys  sign tokens with a new key; the old ones verify for as long as they "
          "stand\n"
          "               in TOKEN_KEY_FILE\n"
          "Accounts are in USERS_URL; the service may be running.\n",
          stderr);
    return 2;
}

static int64_t soon(void)
{
    return clock_monotonic_ms() + CALL_MS;
}

static bool print_list(struct users *users, struct error *err)
{
    struct user page[USERS_PAGE_MAX];
    char created[CLOCK_RFC3339_LEN];
    char after[TOKEN_NAME_MAX + 1] = "";
    size_t count = USERS_PAGE_MAX;

    while (count == USERS_PAGE_MAX) {
        if (!users_list(users, after, soon(), page, &count, err))
            return false;
        for (size_t i = 0; i < count; i++) {
            clock_rfc3339(page[i].created_ms, created);
            printf("%s %s\n", created, page[i].name);
        }
        if (count > 0)
            snprintf(after, sizeof(after), "%s", page[count - 1].name);
    }
    return true;
}

static bool read_password(char out[PASSWORD_MAX + 2], struct error *err)
{
    if (fgets(out, PASSWORD_MAX + 2, stdin) == NULL)
        return error_set(err, ERROR_BAD_REQUEST, "no password on stdin");
    out[strcspn(out, "\r\n")] = '\0';
    return true;
}

static bool with_password(struct users *users, const char *what, const char *name,
                          struct error *err)
{
    char password[PASSWORD_MAX + 2];
    struct user user;

    return read_password(password, err) &&
           (strcmp(what, "add") == 0
                ? users_add(users, name, password, soon(), &user, err)
                : users_set_password(users, name, password, soon(), &user, err));
}

static void close_users(struct users **users)
{
    users_close(*users);
}

static bool run(const struct settings *s, const char *what, const char *name, struct error *err)
{
    CLEANUP(close_users) struct users *users = NULL;

    if (strcmp(what, "rotate-keys") == 0)
        return token_keys_rotate(s->token_key_file, err);
    if ((users = accounts_open(s, NULL, err)) == NULL)
        return false;
    if (strcmp(what, "list") == 0)
        return print_list(users, err);
    return strcmp(what, "delete") == 0 ? users_remove(users, name, soon(), err)
                                       : with_password(users, what, name, err);
}

int users_command(int argc, char **argv)
{
    static const struct {
        const char *name;
        int argc;
    } commands[] = {{"list", 3}, {"add", 4}, {"password", 4}, {"delete", 4}, {"rotate-keys", 3}};
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(16384);
    CLEANUP(settings_done) struct settings settings;
    struct error err = {0};
    bool known = false;

    if (!settings_load(SERVICE_PREPROCESS, &settings, &mistakes)) {
        fprintf(stderr, "%.*s", (int)mistakes.len, (const char *)mistakes.data);
        return 2;
    }
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        known = known || (argc == commands[i].argc && strcmp(argv[2], commands[i].name) == 0);
    if (!known)
        return usage();
    if (run(&settings, argv[2], argc == 4 ? argv[3] : "", &err))
        return 0;
    fprintf(stderr, "preprocess-service: %s\n", err.message);
    return 1;
}
