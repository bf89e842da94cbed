/* Any geometry, even one that no picture has: fields of two bytes each, in the order of read_plan.
 */
#include "image/resample/resample.h"
#include "fuzz.h"

enum { WORK_MAX = 1 << 18, GUARD = 0xa5, COLOUR = 200 };

static unsigned field(struct bytes *in)
{
    unsigned high = fuzz_byte(in);

    return high << 8 | fuzz_byte(in);
}

/* A size between 1 and 65536, mostly a small one. */
static int side(struct bytes *in)
{
    unsigned n = field(in);

    return (int)(n >> (n & 8) >> 2) + 1;
}

static struct resample_plan read_plan(struct bytes *in)
{
    struct resample_plan plan = {.src_width = side(in), .src_height = side(in)};
    double left = field(in), width = field(in), top = field(in), height = field(in);

    plan.left = left / 65536 * plan.src_width;
    plan.top = top / 65536 * plan.src_height;
    plan.width = (width + 1) / 65536 * (plan.src_width - plan.left);
    plan.height = (height + 1) / 65536 * (plan.src_height - plan.top);
    plan.out_width = side(in);
    plan.out_height = side(in);
    plan.out_stride = 3 * (size_t)plan.out_width + field(in) % 64;
    return plan;
}

/* One colour stays that colour, and nothing is written beside the rows. */
static void check_output(const struct resample_plan *plan, const uint8_t *out)
{
    for (int y = 0; y < plan->out_height; y++) {
        const uint8_t *row = out + (size_t)y * plan->out_stride;
        size_t used = 3 * (size_t)plan->out_width;
        for (size_t x = 0; x < used; x++)
            FUZZ_CHECK(row[x] == COLOUR + x % 3);
        for (size_t x = used; x < plan->out_stride && y + 1 < plan->out_height; x++)
            FUZZ_CHECK(row[x] == GUARD);
    }
}

static void run(struct resample *r, const struct resample_plan *plan, const uint8_t *out)
{
    size_t columns = (size_t)(r->last_col - r->first_col);
    CLEANUP_FREE uint8_t *row = malloc(4 * columns);
    bool done = false;

    FUZZ_CHECK(r->first_row >= 0 && r->first_row < r->last_row && r->last_row <= plan->src_height);
    FUZZ_CHECK(r->first_col >= 0 && r->first_col < r->last_col && r->last_col <= plan->src_width);
    FUZZ_CHECK(row != NULL);
    for (size_t i = 0; i < 4 * columns; i++)
        row[i] = (uint8_t)(COLOUR + i % 4);
    for (int y = r->first_row; y < r->last_row; y++) {
        int before = resample_rows_done(r);
        done = resample_row(r, row);
        FUZZ_CHECK(resample_rows_done(r) >= before && resample_rows_done(r) <= plan->out_height);
        FUZZ_CHECK(done == (resample_rows_done(r) == plan->out_height));
    }
    FUZZ_CHECK(done);
    check_output(plan, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct resample r;
    struct bytes in = bytes_of(data, size);
    struct error err = {0};

    for (int n = 0; n < 3 && in.len > 0; n++) { /* tables are kept from one to the next */
        struct resample_plan plan = read_plan(&in);
        int64_t work = (int64_t)plan.src_width * plan.src_height +
                       (int64_t)plan.out_width * plan.out_height * 8;
        size_t size_out =
            (size_t)(plan.out_height - 1) * plan.out_stride + 3 * (size_t)plan.out_width;
        if (work > WORK_MAX)
            continue;
        CLEANUP_FREE uint8_t *out = malloc(size_out);
        FUZZ_CHECK(out != NULL);
        memset(out, GUARD, size_out);
        plan.out = out;
        if (resample_begin(&r, &plan, &err))
            run(&r, &plan, out);
        else
            FUZZ_CHECK_ERROR(&err, ERROR_INTERNAL, ERROR_OVERLOADED);
    }
    resample_trim(&r, 1 << 16);
    return 0;
}
