/* Users: what the first line says, with the rest of the input.
 *   token    a token's text; <token> stands for a good one
 *   claims   the claims of a token, which is signed here
 *   up, in   the body of POST /v1/users, of POST /v1/tokens
 *   change   the body of PATCH /v1/users/me
 *   address  the X-Forwarded-For of a sign-in behind two proxies
 * Passwords are not hashed: that ends in "overloaded". */
#include "users/users.h"

#include "../../preprocess_service/accounts.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/xmalloc.h"
#include "fuzz.h"
#include "http/connections.h"

#include <openssl/evp.h>

/* RFC 8037, A.1 */
static const char key_line[] = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n";
static char folder[] = "/tmp/fuzz_users.XXXXXX", good[TOKEN_MAX];
static char admins[] = "root, boss@example.com";
static struct byte_budget budget = {.max = 64 << 20};
static struct app app;
static EVP_PKEY *key;

static bool busy(void *ctx, bool (*job)(void *arg, struct error *err), void *arg,
                 int64_t deadline_ms, struct error *err)
{
    return error_set(err, ERROR_OVERLOADED, "no worker");
}

static void remove_folder(void)
{
    static const char *const names[] = {"keys", "users.db", "users.db-wal", "users.db-shm"};

    users_close(app.users);
    EVP_PKEY_free(key);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void start(void)
{
    CLEANUP(buffer_done) struct buffer seed = BUFFER_MAX(64);
    struct error err = {0};

    log_init("fuzz", LOG_ERROR, LOG_TEXT);
    FUZZ_CHECK(mkdtemp(folder) != NULL);
    CLEANUP_FREE char *keys = xasprintf("%s/keys", folder);
    CLEANUP_FREE char *url = xasprintf("sqlite:%s/users.db", folder);
    FILE *f = fopen(keys, "w");
    FUZZ_CHECK(f != NULL && fputs(key_line, f) >= 0 && fclose(f) == 0);
    app.service.settings.admins = admins;
    app.service.settings.proxies = 2;
    app.users =
        users_open(&(struct users_options){.url = url, .key_file = keys, .compute = busy}, &err);
    FUZZ_CHECK(app.users != NULL);
    const struct user user = {.name = "alice", .generation = 1};
    FUZZ_CHECK(users_token(app.users, &user, good, &err));
    CLEANUP_FREE char *line = xstrdup(key_line);
    line[strcspn(line, "\n")] = '\0';
    FUZZ_CHECK(string_base64_decode(line, &seed, &err));
    key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed.data, seed.len);
    FUZZ_CHECK(key != NULL);
    atexit(remove_folder);
}

/* ---- tokens ---- */

static bool read_token(const char *text, struct token_subject *ret)
{
    struct error err = {0};

    if (users_read_token(app.users, text, ret, &err)) {
        size_t len = strnlen(ret->name, sizeof(ret->name));
        FUZZ_CHECK(len > 0 && len <= TOKEN_NAME_MAX);
        return true;
    }
    FUZZ_CHECK_ERROR(&err, ERROR_UNAUTHORIZED);
    return false;
}

/* None but ours is taken for one of ours. */
static void check_token(struct bytes in)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(65536);
    struct bytes before = fuzz_until(&in, "<token>");
    struct token_subject subject = {0};
    struct error err;

    FUZZ_CHECK(buffer_append(&text, before.data, before.len, &err));
    if (before.data != NULL && in.data != before.data)
        FUZZ_CHECK(buffer_append_str(&text, good, &err) &&
                   buffer_append(&text, in.data, in.len, &err));
    CLEANUP_FREE char *exact = fuzz_text(buffer_view(&text));
    if (read_token(exact, &subject))
        FUZZ_CHECK(strcmp(exact, good) == 0 && strcmp(subject.name, "alice") == 0);
}

/* Whatever we might sign. */
static void check_claims(struct bytes in)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(65536);
    CLEANUP(buffer_done) struct buffer claims = BUFFER_MAX(65536);
    struct token_subject subject = {0};
    uint8_t signature[64];
    size_t len = sizeof(signature);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct error err;

    FUZZ_CHECK(ctx != NULL && in.len < 16384);
    FUZZ_CHECK(buffer_append(&text, good, strcspn(good, ".") + 1, &err) &&
               base64url_encode(in, &text, &err));
    FUZZ_CHECK(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
               EVP_DigestSign(ctx, signature, &len, text.data, text.len) == 1);
    EVP_MD_CTX_free(ctx);
    FUZZ_CHECK(buffer_append(&text, ".", 1, &err) &&
               base64url_encode(bytes_of(signature, len), &text, &err));
    CLEANUP_FREE char *exact = fuzz_text(buffer_view(&text));
    if (read_token(exact, &subject)) {
        json_t *json = json_loadb((const char *)in.data, in.len, 0, NULL);
        FUZZ_CHECK(json_integer_value(json_object_get(json, "exp")) > clock_wall_ms() / 1000 - 60);
        FUZZ_CHECK(strcmp(json_string_value(json_object_get(json, "sub")), subject.name) == 0);
        json_decref(json);
    }
}

/* ---- requests ---- */

static void check_reply(struct reply *reply)
{
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(65536);
    struct error oom = {0};

    FUZZ_CHECK(reply->status == 400 || reply->status == 409 || reply->status == 413 ||
               reply->status == 429 || reply->status == 503);
    fuzz_check_error(&reply->error);
    FUZZ_CHECK(reply_error_body(ERROR_FORM_PROBLEM, &reply->error, "id", &body, &oom));
    json_t *json = json_loadb((const char *)body.data, body.len, 0, NULL);
    FUZZ_CHECK(json_integer_value(json_object_get(json, "status")) == reply->status);
    json_decref(json);
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
    reply_done(reply);
}

static struct request request_of(const char *who, struct bytes body)
{
    return (struct request){.method = "POST",
                            .path = "/",
                            .route = "/",
                            .peer = "192.0.2.1",
                            .body = body,
                            .context = {.id = "id",
                                        .traceparent = "",
                                        .who = who,
                                        .deadline_ms = clock_monotonic_ms() + 10000,
                                        .budget = &budget}};
}

static void check_address(struct bytes in)
{
    struct http_field headers[8];
    char *lines[8];
    size_t n = 0;
    char address[PEER_MAX];

    while (in.len > 0 && n < ARRAY_SIZE(lines)) {
        lines[n] = fuzz_line(&in);
        headers[n] = (struct http_field){"X-Forwarded-For", lines[n]};
        n++;
    }
    struct request req = request_of("", bytes_of(NULL, 0));
    req.headers = headers;
    req.header_count = n;
    request_client_address(&req, app.service.settings.proxies, address);
    FUZZ_CHECK(*address != '\0' && strpbrk(address, ", ") == NULL);
    while (n > 0)
        free(lines[--n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);

    if (app.users == NULL)
        start();
    if (size >= 16384)
        return 0;
    CLEANUP_FREE char *what = fuzz_line(&in);
    struct request req = request_of(strcmp(what, "change") == 0 ? "alice" : "", in);
    struct reply reply = {0};
    if (strcmp(what, "token") == 0)
        check_token(in);
    else if (strcmp(what, "claims") == 0)
        check_claims(in);
    else if (strcmp(what, "address") == 0)
        check_address(in);
    else if (strcmp(what, "up") == 0)
        reply = handle_sign_up(&app, &req);
    else if (strcmp(what, "in") == 0)
        reply = handle_sign_in(&app, &req);
    else if (strcmp(what, "change") == 0)
        reply = handle_user_change(&app, &req);
    if (reply.status != 0)
        check_reply(&reply);
    return 0;
}
