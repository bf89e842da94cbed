/* The migrations, in their order. A file that was released never changes: add another. */
#include "base/embed.h"
#include "catalogue/catalogue_internal.h"

EMBED_FILE(catalogue_0001_images, "common/catalogue/migrations/0001_images.sql");

const struct db_migration catalogue_migrations[] = {
    {"0001_images", catalogue_0001_images},
};
const size_t catalogue_migration_count = ARRAY_SIZE(catalogue_migrations);
