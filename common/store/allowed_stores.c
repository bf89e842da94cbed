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

static bool add(struct store_set *set, const struct store *main,
                const struct store_options *options, const char *entry, size_t len,
                struct error *err)
{
    struct store_options own = *options;
    CLEANUP_FREE char *url =
        xasprintf("%s://%.*s", store_scheme_names[main->scheme], (int)len, entry);

    if (set->count == STORES_MAX)
        return error_set(err, ERROR_CONFIG, "more than %d buckets", STORES_MAX);
    own.url = url;
    struct store *store = store_open(&own, err);
    if (store == NULL)
        return error_wrap(err, "%.*s", (int)len, entry);
    set->stores[set->count++] = store;
    return true;
}

struct store_set *store_set_open(struct store *main, const struct store_options *options,
                                 const char *allowed, struct error *err)
{
    struct store_set *set = xcalloc(1, sizeof(*set));
    size_t len;

    if (*allowed == '\0') {
        set->stores[set->count++] = main;
        return set;
    }
    set->owned = true;
    for (const char *entry = allowed; *entry != '\0'; entry += len + (entry[len] == ',')) {
        entry += strspn(entry, " ");
        len = strcspn(entry, ",");
        size_t trimmed = len;
        while (trimmed > 0 && entry[trimmed - 1] == ' ')
            trimmed--;
        if (!add(set, main, options, entry, trimmed, err)) {
            store_set_free(set);
            return NULL;
        }
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
