/* XML replies of object storage. */
#include "store/bucket/xml.h"
#include "fuzz.h"

struct seen {
    size_t calls, stop_after;
};

static bool visit(void *ctx, const char *path, const char *text, struct error *err)
{
    struct seen *seen = ctx;
    const char *last = strrchr(path, '/');

    FUZZ_CHECK(*path != '\0' && *path != '/' && strlen(path) <= 512);
    FUZZ_CHECK(last == NULL || last[1] != '\0');
    FUZZ_CHECK(strlen(text) <= 8192 && string_is_utf8(bytes_from_str(text)));
    return ++seen->calls != seen->stop_after;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen all = {0}, first = {.stop_after = 1};
    struct error err = {0};

    if (!xml_read(bytes_of(data, size), visit, &all, &err))
        FUZZ_CHECK_ERROR(&err, ERROR_UNAVAILABLE);
    else
        FUZZ_CHECK(all.calls > 0 && err.code == ERROR_NONE);
    err = (struct error){0};
    if (!xml_read(bytes_of(data, size), visit, &first, &err) && first.calls == 0)
        FUZZ_CHECK_ERROR(&err, ERROR_UNAVAILABLE);
    FUZZ_CHECK(first.calls <= 1 && (first.calls == 0) == (all.calls == 0));
    return 0;
}
