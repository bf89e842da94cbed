#include "client/google_token.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "client/google_key.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <string.h>

enum {
    REFRESH_MS = 300000, /* so long before the end (at most a fifth of the life) it is renewed */
    MARGIN_MS = 30000,   /* with less than this left (a tenth of the life) it is not given out */
    RENEW_MAX_MS = 2000, /* what a caller spends on renewing while the old one is good */
    AGAIN_MS = 5000,     /* between two attempts while the old one is good */
    ATTEMPTS_MAX = 3,
    BACKOFF_MS = 200, /* doubling */
    REPLY_MAX = 16384,
    LIFETIME_MAX_S = 86400,
};

struct google_token {
    struct bearer bearer; /* first: what the callers hold */
    struct google_token_options options;
    struct google_key *key; /* NULL: the metadata server */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool fetching;
    uint64_t fetches;      /* that have ended: waiters share their outcome */
    struct error failure;  /* of the last one; ERROR_NONE when it succeeded */
    int64_t next_try_ms;   /* while the old token is good */
    int64_t renew_ms;      /* monotonic: when to renew */
    int64_t good_until_ms; /* 0: there is no token */
    char text[BEARER_MAX];
};

static bool ask_metadata(const struct google_token *t, int64_t deadline_ms, struct http_reply *ret,
                         struct error *err)
{
    static const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    const char *host = t->options.metadata_host;
    CLEANUP_FREE char *url =
        xasprintf("http://%s/computeMetadata/v1/instance/service-accounts/default/token",
                  *host != '\0' ? host : GOOGLE_METADATA_HOST);

    return http_client_call(t->options.client,
                            &(struct http_call){.method = "GET",
                                                .url = url,
                                                .headers = headers,
                                                .deadline_ms = deadline_ms,
                                                .max_reply_bytes = REPLY_MAX},
                            ret, err);
}

static bool ask_token_uri(const struct google_token *t, int64_t deadline_ms, struct http_reply *ret,
                          struct error *err)
{
    static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(REPLY_MAX);

    return buffer_append_str(
               &body, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=",
               err) &&
           google_key_assertion(t->key, t->options.scope, clock_wall_ms() / 1000, &body, err) &&
           http_client_call(t->options.client,
                            &(struct http_call){.method = "POST",
                                                .url = google_key_token_uri(t->key),
                                                .headers = headers,
                                                .body = buffer_view(&body),
                                                .deadline_ms = deadline_ms,
                                                .max_reply_bytes = REPLY_MAX},
                            ret, err);
}

/* A token that can stand in a header, and its lifetime. */
static bool read_reply(const struct http_reply *reply, char out[BEARER_MAX], int64_t *lifetime_s,
                       struct error *err)
{
    struct error malformed;
    json_t *json = json_read(buffer_view(&reply->body), 0, &malformed);
    const char *text = json_string_value(json_object_get(json, "access_token"));
    size_t len = text != NULL ? strlen(text) : 0;
    bool ok = len > 0 && len < BEARER_MAX;

    *lifetime_s = json_integer_value(json_object_get(json, "expires_in"));
    for (size_t i = 0; ok && i < len; i++)
        ok = text[i] > ' ' && text[i] <= '~';
    ok = ok && *lifetime_s > 0 && *lifetime_s <= LIFETIME_MAX_S;
    if (ok)
        memcpy(out, text, len + 1);
    json_decref(json);
    return ok || error_set(err, ERROR_UNAVAILABLE, "the answer holds no usable access token");
}

/* *again: whether another attempt may fare better. */
static bool fetch_once(const struct google_token *t, int64_t deadline_ms, char out[BEARER_MAX],
                       int64_t *lifetime_s, bool *again, struct error *err)
{
    CLEANUP(http_reply_done) struct http_reply reply = {0};

    *again = true;
    if (!(t->key != NULL ? ask_token_uri(t, deadline_ms, &reply, err)
                         : ask_metadata(t, deadline_ms, &reply, err))) {
        *again = err->code == ERROR_UNAVAILABLE;
        /* whatever it is, it is not the request's fault */
        return *again || err->code == ERROR_DEADLINE || err->code == ERROR_OVERLOADED
                   ? false
                   : error_set(err, ERROR_UNAVAILABLE, "no access token can be asked for");
    }
    if (reply.status == 200)
        return read_reply(&reply, out, lifetime_s, err);
    *again = reply.status >= 500 || reply.status == 429;
    return error_set(err, ERROR_UNAVAILABLE, "an access token is refused (%ld)", reply.status);
}

static bool fetch(const struct google_token *t, int attempts, int64_t deadline_ms,
                  char out[BEARER_MAX], int64_t *lifetime_s, struct error *err)
{
    bool again;

    for (int i = 0; !fetch_once(t, deadline_ms, out, lifetime_s, &again, err); i++) {
        int64_t pause_ms = (int64_t)BACKOFF_MS << i;
        if (!again || i + 1 == attempts || pause_ms >= clock_left_ms(deadline_ms))
            return error_wrap(err, "Google");
        clock_pause(pause_ms);
        *err = (struct error){0};
    }
    return true;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Called with the mutex, which is free meanwhile. */
static void fetch_unlocked(struct google_token *t, int attempts, int64_t deadline_ms)
{
    char text[BEARER_MAX];
    int64_t lifetime_s = 0;
    struct error why = {0};

    t->fetching = true;
    pthread_mutex_unlock(&t->mutex);
    bool ok = fetch(t, attempts, deadline_ms, text, &lifetime_s, &why);
    pthread_mutex_lock(&t->mutex);
    if (ok) {
        const int64_t lifetime_ms = lifetime_s * 1000, end_ms = clock_monotonic_ms() + lifetime_ms;
        memcpy(t->text, text, sizeof(text));
        t->renew_ms = end_ms - smaller(REFRESH_MS, lifetime_ms / 5);
        t->good_until_ms = end_ms - smaller(MARGIN_MS, lifetime_ms / 10);
    }
    OPENSSL_cleanse(text, sizeof(text));
    t->next_try_ms = ok ? 0 : clock_monotonic_ms() + AGAIN_MS;
    t->failure = why; /* ERROR_NONE when it worked */
    t->fetching = false;
    t->fetches++;
    pthread_cond_broadcast(&t->changed);
}

static bool is_good(const struct google_token *t)
{
    return clock_monotonic_ms() < t->good_until_ms;
}

static bool is_due(const struct google_token *t)
{
    const int64_t now_ms = clock_monotonic_ms();

    return !t->fetching && now_ms >= t->renew_ms && now_ms >= t->next_try_ms;
}

/* Called with the mutex. Waiters share the outcome of the fetch that they wait for. */
static bool wait_for_token(struct google_token *t, int64_t deadline_ms, struct error *err)
{
    const uint64_t seen = t->fetches;
    const bool waits = t->fetching;

    if (!waits)
        fetch_unlocked(t, ATTEMPTS_MAX, deadline_ms);
    while (t->fetches == seen)
        if (!thread_cond_wait(&t->changed, &t->mutex, deadline_ms) && t->fetches == seen)
            return error_set(err, ERROR_DEADLINE, "no access token before the deadline");
    /* a fetch that its own caller had no time for says nothing to those who have */
    if (waits && t->failure.code == ERROR_DEADLINE)
        return true;
    if (t->failure.code != ERROR_NONE)
        *err = t->failure;
    return t->failure.code == ERROR_NONE;
}

static bool google_get(struct bearer *bearer, int64_t deadline_ms, char out[BEARER_MAX],
                       struct error *err)
{
    struct google_token *t = (struct google_token *)bearer;
    bool ok = true;

    pthread_mutex_lock(&t->mutex);
    if (is_good(t) && is_due(t)) /* a failure does not matter yet */
        fetch_unlocked(t, 1, smaller(deadline_ms, clock_monotonic_ms() + RENEW_MAX_MS));
    while (ok && !is_good(t))
        ok = clock_left_ms(deadline_ms) > 0
                 ? wait_for_token(t, deadline_ms, err)
                 : error_set(err, ERROR_DEADLINE, "no access token before the deadline");
    if (ok)
        memcpy(out, t->text, sizeof(t->text));
    pthread_mutex_unlock(&t->mutex);
    return ok;
}

static void google_expired(struct bearer *bearer, const char *text)
{
    struct google_token *t = (struct google_token *)bearer;

    pthread_mutex_lock(&t->mutex);
    if (strcmp(t->text, text) == 0)
        t->good_until_ms = 0;
    pthread_mutex_unlock(&t->mutex);
}

struct bearer *google_token_new(const struct google_token_options *options, struct error *err)
{
    struct google_token *t = xcalloc(1, sizeof(*t));

    t->bearer = (struct bearer){google_get, google_expired};
    t->options = *options;
    if (*options->credentials_file != '\0') {
        t->key = google_key_read(options->credentials_file, err);
        if (t->key == NULL) {
            free(t);
            return NULL;
        }
    }
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->changed, NULL);
    return &t->bearer;
}

void google_token_free(struct bearer *bearer)
{
    struct google_token *t = (struct google_token *)bearer;

    if (t == NULL)
        return;
    google_key_free(t->key);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    OPENSSL_cleanse(t->text, sizeof(t->text));
    free(t);
}
