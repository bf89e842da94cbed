#include "store/allowed_stores.h"

#include "base/xmalloc.h"
#include "store/driver.h"

#include <string.h>

enum { STORES_MAX = 64 };

struct store_set {
    struct store *stores[STORES_MAX];
    size_t count;
    bool owned; /* the stores, not only the set */
};

/* The next entry of the list, as a URL like the main store's `url`. NULL at the end of the list.
 * The caller frees. */
static char *next_url(const char *url, const char **list)
{
    if (**list == '\0')
        return NULL;
    const char *entry = *list + strspn(*list, " ");
    size_t len = strcspn(entry, ",");
    *list = entry + len + (entry[len] == ',');
    while (len > 0 && entry[len - 1] == ' ')
        len--;
    return xasprintf("%.*s://%.*s", (int)strcspn(url, ":"), url, (int)len, entry);
}

bool store_set_check(const char *url, const char *allowed, store_mistake_fn mistake, void *ctx)
{
    /* what else they need is the main store's, and checked with it */
    struct store_options options = {.s3 = {.access_key = "x", .secret_key = "x"}};
    bool ok = true;

    for (char *next; (next = next_url(url, &allowed)) != NULL; free(next)) {
        struct error why = {0};
        options.url = next;
        if (!store_check(&options, store_first_mistake, &why)) {
            error_wrap(&why, "%s", next);
            ok = mistake(ctx, why.message);
        }
    }
    return ok;
}

struct store_set *store_set_open(struct store *main, const struct store_options *options,
                                 const char *allowed, struct error *err)
{
    struct store_set *set = xcalloc(1, sizeof(*set));
    struct store_options own = *options;

    set->owned = *allowed != '\0';
    if (!set->owned)
        set->stores[set->count++] = main;
    for (char *url; (url = next_url(options->url, &allowed)) != NULL; free(url)) {
        own.url = url;
        struct store *store = NULL;
        if (set->count == STORES_MAX)
            error_set(err, ERROR_CONFIG, "more than %d buckets", STORES_MAX);
        else if ((store = store_open(&own, err)) == NULL)
            error_wrap(err, "%s", url);
        if (store == NULL) {
            free(url);
            store_set_free(set);
            return NULL;
        }
        set->stores[set->count++] = store;
    }
    return set;
}

bool store_set_find(const struct store_set *set, const char *uri, struct store **store,
                    char key[STORE_KEY_MAX + 1], struct error *err)
{
    struct error why = {0};

    for (size_t i = 0; i < set->count; i++) {
        if (store_key_of_uri(set->stores[i], uri, key, &why)) {
            *store = set->stores[i];
            return true;
        }
        if (why.code != ERROR_FORBIDDEN)
            break;
    }
    *err = why;
    return false;
}

void store_set_free(struct store_set *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; set->owned && i < set->count; i++)
        store_free(set->stores[i]);
    free(set);
}
