/* Pictures on stdin, what becomes of them on stdout: for tests that look at thousands of files
 * (test_oracle.py). A request is "LENGTH WIDTH HEIGHT\n" and the file. The answer is "STATUS
 * LENGTH\n" and a PNG of that size on white, or the reason. */
#include "image/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct image_limits limits = {110000000, 536870912};

static bool respond(struct image_scratch *scratch, struct bytes data, int width, int height)
{
    struct image_options options = image_options_default();
    struct image_input input = {data, &limits, NULL, 0};
    CLEANUP(image_result_done) struct image_result result = {0};
    struct error err = {0};

    options.width = width;
    options.height = height;
    options.fit = IMAGE_FILL;
    options.format = IMAGE_PNG;
    if (image_transform(scratch, &input, &options, &result, &err)) {
        printf("200 %zu\n", result.len);
        fwrite(result.data, 1, result.len, stdout);
    } else {
        printf("%d %zu\n%s", error_http_status(err.code), strlen(err.message), err.message);
    }
    return fflush(stdout) == 0;
}

int main(void)
{
    struct error err = {0};
    struct image_scratch *scratch = image_start(&err) ? image_scratch_new(&err) : NULL;
    size_t len;
    int width, height;

    if (scratch == NULL) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    while (scanf("%zu %d %d", &len, &width, &height) == 3 && getchar() == '\n') {
        uint8_t *data = malloc(len + 1); /* of that size, so that reading past it is noticed */

        if (data == NULL || fread(data, 1, len, stdin) != len ||
            !respond(scratch, bytes_of(data, len), width, height))
            return 1;
        free(data);
    }
    image_scratch_free(scratch);
    image_stop();
    return 0;
}
