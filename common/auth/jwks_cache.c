#include "auth/jwks_cache.h"

#include "base/clock.h"
#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "client/http_client.h"

#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

enum {
    WAIT_MS = 5000,         /* for keys without which there is no answer */
    REFRESH_WAIT_MS = 2000, /* for newer ones than are at hand */
    WAITERS_MAX = 128,      /* connection threads held up at a time */
    RETRY_FIRST_MS = 1000,
    AGAIN_MS = 30000,
    MAX_AGE_DEFAULT_S = 300,
    MAX_AGE_MIN_S = 60,
    MAX_AGE_MAX_S = 24 * 3600,
    GRACE_MS = 24 * 3600 * 1000,
};

struct jwks {
    struct http_client *client;
    char *url;
    int64_t (*now_ms)(void);

    pthread_mutex_t mutex; /* over all that follows */
    pthread_cond_t fetched;
    struct jwk_set set;
    int64_t fresh_until_ms;
    int64_t retry_ms;   /* keys that are old are not fetched before */
    int64_t unknown_ms; /* an id that is not among fresh keys does not cause a fetch before */
    int64_t delay_ms;   /* after the next failure without keys */
    struct error error; /* of the last fetch; ERROR_NONE: it succeeded */
    bool fetching;
    int waiting;
};

struct jwks *jwks_new(const struct jwks_options *options)
{
    struct jwks *j = xcalloc(1, sizeof(*j));

    j->url = xstrdup(options->url);
    j->client = options->client;
    j->now_ms = options->now_ms != NULL ? options->now_ms : clock_monotonic_ms;
    j->delay_ms = RETRY_FIRST_MS;
    j->fresh_until_ms = j->retry_ms = j->unknown_ms = INT64_MIN;
    pthread_mutex_init(&j->mutex, NULL);
    pthread_cond_init(&j->fetched, NULL);
    return j;
}

void jwks_free(struct jwks *j)
{
    if (j == NULL)
        return;
    pthread_cond_destroy(&j->fetched);
    pthread_mutex_destroy(&j->mutex);
    jwk_set_done(&j->set);
    free(j->url);
    free(j);
}

/* ---- fetching ---- */

/* The number after "max-age=" in Cache-Control (RFC 9111, 5.2.2), or -1. */
static int64_t max_age_of(const char *cache_control)
{
    int64_t age;

    for (const char *p = cache_control; *p != '\0';) {
        char number[20];
        p += strspn(p, ", \t");
        size_t len = strcspn(p, ", \t");
        if (len > 8 && len - 8 < sizeof(number) && strncasecmp(p, "max-age=", 8) == 0) {
            snprintf(number, sizeof(number), "%.*s", (int)(len - 8), p + 8);
            if (string_to_int64(number, 0, INT32_MAX, &age))
                return age;
        }
        p += len;
    }
    return -1;
}

/* Less what the reply has aged in caches on its way. */
static int64_t lifetime_ms(const struct http_reply *reply)
{
    char value[256];
    int64_t age, seconds = -1;

    if (http_reply_header(reply, "Cache-Control", value, sizeof(value)))
        seconds = max_age_of(value);
    if (seconds < 0)
        seconds = MAX_AGE_DEFAULT_S;
    if (http_reply_header(reply, "Age", value, sizeof(value)) &&
        string_to_int64(value, 0, INT32_MAX, &age))
        seconds -= age;
    seconds = seconds < MAX_AGE_MIN_S ? MAX_AGE_MIN_S : seconds;
    return 1000 * (seconds > MAX_AGE_MAX_S ? MAX_AGE_MAX_S : seconds);
}

static bool fetch(const struct jwks *j, int64_t deadline_ms, struct jwk_set *ret,
                  int64_t *ret_lifetime_ms, struct error *err)
{
    static const char *const headers[] = {"Accept: application/json", NULL};
    CLEANUP(http_reply_done) struct http_reply reply = {0};

    if (!http_client_call(j->client,
                          &(struct http_call){
                              .method = "GET",
                              .url = j->url,
                              .headers = headers,
                              .deadline_ms = deadline_ms,
                              .max_reply_bytes = JWK_SET_MAX_BYTES,
                          },
                          &reply, err))
        return error_wrap(err, "the issuer's keys");
    if (reply.status != 200)
        return error_set(err, ERROR_UNAVAILABLE, "the issuer's keys: status %ld", reply.status);
    *ret_lifetime_ms = lifetime_ms(&reply);
    return jwk_set_read(buffer_view(&reply.body), ret, err) || error_wrap(err, "the issuer's keys");
}

/* Called locked. */
static void put_off(struct jwks *j, const struct error *why)
{
    int64_t delay = j->set.count > 0 ? AGAIN_MS : j->delay_ms;

    j->error = *why;
    if (!error_is_passing(why->code))
        j->error.code = ERROR_UNAVAILABLE;
    j->retry_ms = j->unknown_ms = j->now_ms() + delay;
    j->delay_ms = delay * 2 < AGAIN_MS ? delay * 2 : AGAIN_MS;
}

/* Called locked; unlocks while it waits for the network. */
static void fetch_unlocked(struct jwks *j, int64_t deadline_ms)
{
    struct jwk_set set;
    int64_t lifetime = 0;
    struct error err = {0};

    j->fetching = true;
    pthread_mutex_unlock(&j->mutex);
    bool ok = fetch(j, deadline_ms, &set, &lifetime, &err);
    pthread_mutex_lock(&j->mutex);
    j->fetching = false;
    if (ok) {
        jwk_set_done(&j->set);
        j->set = set;
        j->fresh_until_ms = j->now_ms() + lifetime;
        j->delay_ms = RETRY_FIRST_MS;
        j->error.code = ERROR_NONE;
    } else {
        put_off(j, &err);
    }
    pthread_cond_broadcast(&j->fetched);
}

/* ---- finding ---- */

/* Called locked. */
static struct evp_pkey_st *look_up(struct jwks *j, const char *kid)
{
    bool good = j->set.count > 0 && j->now_ms() < j->fresh_until_ms + GRACE_MS;

    return good ? jwk_set_find(&j->set, kid) : NULL;
}

/* Called locked: whether to fetch now, for a key that is known or not. */
static bool is_due(struct jwks *j, bool known)
{
    int64_t now = j->now_ms();

    if (j->fetching)
        return false;
    if (now >= j->fresh_until_ms)
        return now >= j->retry_ms;
    if (known || now < j->unknown_ms)
        return false;
    j->unknown_ms = now + AGAIN_MS;
    return true;
}

/* Called locked; unlocks while it waits. */
static bool wait_for_fetch(struct jwks *j, int64_t deadline_ms, struct error *err)
{
    bool in_time = true;

    if (j->waiting >= WAITERS_MAX)
        return error_set(err, ERROR_OVERLOADED, "%d requests wait for the issuer's keys",
                         j->waiting);
    j->waiting++;
    while (j->fetching && in_time)
        in_time = thread_cond_wait(&j->fetched, &j->mutex, deadline_ms);
    j->waiting--;
    return !j->fetching || error_set(err, ERROR_DEADLINE, "no time left for the issuer's keys");
}

static int64_t within(int64_t deadline_ms, int64_t ms)
{
    int64_t latest = clock_monotonic_ms() + ms;

    return deadline_ms < latest ? deadline_ms : latest;
}

static struct evp_pkey_st *find_locked(struct jwks *j, const char *kid, int64_t deadline_ms,
                                       struct error *err)
{
    struct evp_pkey_st *key = look_up(j, kid);

    if (is_due(j, key != NULL)) {
        int64_t until = within(deadline_ms, key != NULL ? REFRESH_WAIT_MS : WAIT_MS);
        EVP_PKEY_free(key); /* it may have been withdrawn */
        fetch_unlocked(j, until);
        key = look_up(j, kid);
    } else if (key == NULL && j->fetching) {
        if (!wait_for_fetch(j, within(deadline_ms, WAIT_MS), err))
            return NULL;
        key = look_up(j, kid);
    }
    if (key == NULL && j->error.code != ERROR_NONE)
        *err = j->error;
    else if (key == NULL)
        error_set(err, ERROR_UNAUTHORIZED, "the token's key is not one of the issuer's keys");
    return key;
}

struct evp_pkey_st *jwks_find(struct jwks *j, const char *kid, int64_t deadline_ms,
                              struct error *err)
{
    pthread_mutex_lock(&j->mutex);
    struct evp_pkey_st *key = find_locked(j, kid, deadline_ms, err);
    pthread_mutex_unlock(&j->mutex);
    return key;
}
