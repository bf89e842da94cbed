#include "users/attempts.h"

#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>

enum { WAYS = 8, SETS = 8192, SECRET_LEN = UUID_LEN };

struct rate {
    int64_t burst, every_ms;
};

static const struct rate pair_rate = {5, 30000}, address_rate = {30, 5000};

/* The generic cell rate algorithm: a time says all. It moves by every_ms with each attempt, and may
 * be ahead of the clock by a burst of them. One in the past is forgotten. */
struct cell {
    uint64_t key;
    int64_t until_ms;
};

struct attempts {
    char secret[SECRET_LEN + 1]; /* so that nobody can choose who shares a set with whom */
    pthread_mutex_t lock;        /* the cells */
    struct cell cells[SETS][WAYS];
};

struct attempts *attempts_new(void)
{
    struct attempts *a = xcalloc(1, sizeof(*a));

    if (!string_uuid(a->secret))
        abort(); /* a system without randomness can sign nothing either */
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void attempts_free(struct attempts *a)
{
    if (a == NULL)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static uint64_t key_of(const struct attempts *a, const char *name, const char *address)
{
    char network[INET6_ADDRSTRLEN], hex[SHA256_HEX_LEN + 1];
    struct in6_addr v6;
    struct error ignored;

    if (inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_V4MAPPED(&v6)) {
        address = inet_ntop(AF_INET, v6.s6_addr + 12, network, sizeof(network));
    } else if (inet_pton(AF_INET6, address, &v6) == 1) {
        memset(v6.s6_addr + 8, 0, 8);
        address = inet_ntop(AF_INET6, &v6, network, sizeof(network));
    }
    /* with their NULs: where one ends is part of it, and no name is not an empty one */
    const struct bytes parts[] = {bytes_of(a->secret, SECRET_LEN),
                                  bytes_of(address, strlen(address) + 1),
                                  bytes_of(name, name != NULL ? strlen(name) + 1 : 0)};
    if (!string_sha256_hex(parts, ARRAY_SIZE(parts), hex, &ignored))
        return 0;
    hex[2 * sizeof(uint64_t)] = '\0';
    return strtoull(hex, NULL, 16);
}

/* Its cell, or the one to use for it. Called locked. */
static struct cell *find(struct attempts *a, uint64_t key)
{
    struct cell *set = a->cells[key % SETS], *least = set;

    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
        if (set[i].until_ms < least->until_ms)
            least = &set[i];
    }
    *least = (struct cell){.key = key};
    return least;
}

/* How long until there is room for one more. Called locked. */
static int64_t wait_for(const struct cell *cell, const struct rate *rate, int64_t now_ms)
{
    int64_t ms = cell->until_ms - now_ms - (rate->burst - 1) * rate->every_ms;

    return ms > 0 ? ms : 0;
}

static void move(struct cell *cell, const struct rate *rate, int64_t now_ms)
{
    cell->until_ms = (cell->until_ms > now_ms ? cell->until_ms : now_ms) + rate->every_ms;
}

bool attempts_take(struct attempts *a, const char *name, const char *address, int64_t *wait_ms)
{
    const uint64_t pair = key_of(a, name, address), whole = key_of(a, NULL, address);

    pthread_mutex_lock(&a->lock);
    int64_t now_ms = clock_monotonic_ms();
    int64_t first_ms = wait_for(find(a, pair), &pair_rate, now_ms);
    int64_t second_ms = wait_for(find(a, whole), &address_rate, now_ms);
    *wait_ms = first_ms > second_ms ? first_ms : second_ms;
    if (*wait_ms == 0) {
        move(find(a, pair), &pair_rate, now_ms);
        move(find(a, whole), &address_rate, now_ms);
    }
    pthread_mutex_unlock(&a->lock);
    return *wait_ms == 0;
}

void attempts_give(struct attempts *a, const char *name, const char *address)
{
    const uint64_t pair = key_of(a, name, address), whole = key_of(a, NULL, address);

    pthread_mutex_lock(&a->lock);
    find(a, pair)->until_ms -= pair_rate.every_ms;
    find(a, whole)->until_ms -= address_rate.every_ms;
    pthread_mutex_unlock(&a->lock);
}
