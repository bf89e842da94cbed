#include "base/strings.h"
#include "store/file/file.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/xattr.h>

static const char type_attribute[] = "user.darkroom.content-type";
static const char metadata_attribute[] = "user.darkroom.meta.";
static const char unknown_type[] = "application/octet-stream";

enum { VALUE_MAX = 1024 };

static const struct {
    const char *extension;
    const char *type;
} types[] = {
    {".jpg", "image/jpeg"},        {".jpeg", "image/jpeg"}, {".png", "image/png"},
    {".webp", "image/webp"},       {".avif", "image/avif"}, {".gif", "image/gif"},
    {".heic", "image/heic"},       {".tif", "image/tiff"},  {".tiff", "image/tiff"},
    {".json", "application/json"}, {".txt", "text/plain"},
};

static const char *type_of_key(const char *key)
{
    const char *dot = strrchr(key, '.');

    for (size_t i = 0; dot != NULL && i < ARRAY_SIZE(types); i++)
        if (strcasecmp(dot, types[i].extension) == 0)
            return types[i].type;
    return unknown_type;
}

static bool write_one(int fd, const char *name, const char *value, struct error *err)
{
    if (fsetxattr(fd, name, value, strlen(value), 0) == 0)
        return true;
    if (errno == ENOTSUP)
        return error_set(err, ERROR_UNAVAILABLE,
                         "the file system has no extended attributes for content type or metadata");
    return file_error(err, "writing attributes");
}

bool file_attributes_write(int fd, const struct store_put *put, struct error *err)
{
    char name[XATTR_NAME_MAX + 1];

    if (strcmp(put->content_type, type_of_key(put->key)) != 0 &&
        !write_one(fd, type_attribute, put->content_type, err))
        return false;
    for (size_t i = 0; i < put->metadata_count; i++) {
        snprintf(name, sizeof(name), "%s%s", metadata_attribute, put->metadata[i].name);
        if (!write_one(fd, name, put->metadata[i].value, err))
            return false;
    }
    return true;
}

/* Attributes that others wrote, or that we would not have written, are left alone. */
static bool read_one(int fd, const char *attribute, struct store_info *info, unsigned *count,
                     struct error *err)
{
    char value[VALUE_MAX + 1];
    const char *name = attribute + strlen(metadata_attribute);
    bool is_type = strcmp(attribute, type_attribute) == 0;

    if (!is_type && (!string_starts_with(attribute, metadata_attribute) ||
                     !store_is_metadata_name(name) || *count == STORE_METADATA_MAX))
        return true;
    ssize_t n = fgetxattr(fd, attribute, value, VALUE_MAX);
    if (n < 0)
        return errno == ENODATA || errno == ERANGE || file_error(err, "reading attributes");
    value[n] = '\0';
    if (!store_is_printable(value, is_type ? STORE_CONTENT_TYPE_MAX - 1 : VALUE_MAX))
        return true;
    if (is_type) {
        memcpy(info->content_type, value, strlen(value) + 1); /* there may be NULs within `n` */
        return true;
    }
    *count += 1;
    return store_info_add(info, name, bytes_from_str(value), err);
}

bool file_attributes_read(int fd, const char *key, struct store_info *info, struct error *err)
{
    unsigned count = 0;

    snprintf(info->content_type, sizeof(info->content_type), "%s", type_of_key(key));
    ssize_t size = flistxattr(fd, NULL, 0);
    if (size == 0 || (size < 0 && errno == ENOTSUP))
        return true;
    if (size < 0)
        return file_error(err, "listing attributes");
    CLEANUP_FREE char *names = malloc((size_t)size);
    if (names == NULL)
        return error_oom(err);
    ssize_t len = flistxattr(fd, names, (size_t)size);
    if (len < 0)
        return file_error(err, "listing attributes");
    for (const char *name = names; name < names + len; name += strlen(name) + 1)
        if (!read_one(fd, name, info, &count, err))
            return false;
    return true;
}
