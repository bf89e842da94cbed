/* What sealing costs: a stored picture is sealed and opened again, on one thread.
 * sealed SECONDS KEYS_FILE PICTURE */
#include "store/sealed/seal.h"

#include "program.h"

#include <stdio.h>
#include <stdlib.h>

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Into *sealed, and back into *opened: seconds of each. */
static bool once(const struct seal_keys *keys, struct bytes picture, double seconds[2],
                 struct error *err)
{
    CLEANUP(buffer_done) struct buffer sealed = BUFFER_MAX(SIZE_MAX / 2);
    CLEANUP(buffer_done) struct buffer opened = BUFFER_MAX(SIZE_MAX / 2);
    CLEANUP(seal_opened_done) struct seal_opened header = {0};
    double began = cpu_s();

    if (!seal(keys, "sealed/picture.jpg", "", picture, &sealed, err))
        return false;
    double between = cpu_s();
    struct bytes chunks = bytes_of(sealed.data + SEAL_HEADER_LEN, sealed.len - SEAL_HEADER_LEN);
    if (!seal_open(keys, "sealed/picture.jpg", sealed.data, &header, err) ||
        !seal_open_chunks(&header, 0, chunks, &opened, err))
        return false;
    seconds[0] += between - began;
    seconds[1] += cpu_s() - between;
    return opened.len == picture.len || error_set(err, ERROR_INTERNAL, "not what was sealed");
}

int main(int argc, char **argv)
{
    struct error err = {0};
    double seconds[2] = {0};
    size_t len = 0, count = 0;

    if (argc != 4)
        die("sealed SECONDS KEYS_FILE PICTURE");
    double end = now_s() + seconds_arg("SECONDS", argv[1]);
    uint8_t *picture = file_read(argv[3], &len);
    struct seal_keys *keys = picture != NULL ? seal_keys_load(argv[2], &err) : NULL;
    bool ok = keys != NULL;

    for (; ok && (count == 0 || now_s() < end); count++)
        ok = once(keys, bytes_of(picture, len), seconds, &err);
    if (ok)
        printf("{\"bytes\": %zu, \"count\": %zu, \"seal_cpu_us\": %.2f, \"open_cpu_us\": %.2f}\n",
               len, count, 1e6 * seconds[0] / (double)count, 1e6 * seconds[1] / (double)count);
    else
        fprintf(stderr, "%s\n", err.message);
    seal_keys_free(keys);
    free(picture);
    return ok ? 0 : 1;
}
