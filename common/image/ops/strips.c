/* One operation on all its rows, by several threads: each makes a strip of them. No row depends on
 * another, so the bytes are the same however many there are. */
#include "base/threads.h"
#include "image/ops/operations.h"

enum {
    THREADS_MAX = 16,
    STRIP_NS = 5000000, /* for less a thread is not worth its start */
};

struct strip {
    const struct operation *operation;
    struct operation_run run;
    struct scratch_buffer work;
    struct error err;
    bool started, ok;
    pthread_t thread;
};

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int strip_rows(const struct operation *operation, const struct operation_run *run,
                      int threads)
{
    const double ns = operation->cost_ns(run->value) * run->out_size.width * run->out_size.height;
    const int most = least(threads, THREADS_MAX);
    const int count = ns < (double)most * STRIP_NS ? (int)(ns / STRIP_NS) : most;
    const int rows = count > 1 ? (run->out_size.height - 1) / count + 1 : run->out_size.height;

    return (rows + OPERATION_ROWS - 1) / OPERATION_ROWS * OPERATION_ROWS;
}

static void *make(void *arg)
{
    struct strip *s = arg;

    s->ok = s->operation->apply(&s->run, &s->err);
    return NULL;
}

bool operation_apply(const struct operation *operation, const struct operation_run *run,
                     int threads, struct error *err)
{
    const int rows = strip_rows(operation, run, threads), height = run->out_size.height;
    struct strip strips[THREADS_MAX];
    int count = 0;
    bool ok = true;

    for (int top = 0; top < height; top += rows, count++) {
        struct strip *s = &strips[count];

        *s = (struct strip){.operation = operation, .run = *run};
        s->run.top = top;
        s->run.bottom = least(top + rows, height);
        if (count > 0)
            s->run.work = &s->work;
        s->started = count > 0 && thread_start(&s->thread, make, s, &s->err);
    }
    for (int i = 0; i < count; i++) {
        struct strip *s = &strips[i];

        if (s->started)
            pthread_join(s->thread, NULL);
        else /* the first, and what no thread could be had for */
            make(s);
        scratch_buffer_done(&s->work);
        if (ok && !s->ok) {
            *err = s->err;
            ok = false;
        }
    }
    return ok;
}
