/* The stores that an object's URI may name: STORAGE_URL's, or those of ALLOWED_BUCKETS, all on the
 * same server with the same credentials. Thread-safe once made. */
#pragma once

#include "store/store.h"

struct store_set;

/* `allowed`: comma list of bucket[/prefix]; "" for `main` alone, which is borrowed and must outlive
 * the set, like the strings of the options that it was opened with. NULL: ERROR_CONFIG. */
struct store_set *store_set_open(struct store *main, const struct store_options *options,
                                 const char *allowed, struct error *err) NODISCARD;
/* store_check for the list beside the store of `url`, which is in a bucket. */
bool store_set_check(const char *url, const char *allowed, store_mistake_fn mistake,
                     void *ctx) NODISCARD;
/* The store (borrowed) and key of a URI. Errors as store_key_of_uri; ERROR_FORBIDDEN when it is in
 * none of the stores. */
bool store_set_find(const struct store_set *set, const char *uri, struct store **store,
                    char key[STORE_KEY_MAX + 1], struct error *err) NODISCARD;
void store_set_free(struct store_set *set);
