#include "load.h"

#include "program.h"

#include <stdlib.h>

void load_times_add(struct load_times *t, double s)
{
    if (t->count == t->room) {
        t->room = t->room == 0 ? 4096 : 2 * t->room;
        t->s = realloc(t->s, t->room * sizeof(*t->s));
        if (t->s == NULL)
            die("out of memory");
    }
    t->s[t->count++] = s;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The nearest-rank percentile: the least value that p of all do not exceed. */
static double percentile_ms(const double *sorted, size_t count, double p)
{
    size_t rank = (size_t)((double)count * p + 0.999999);

    if (count == 0)
        return 0;
    return 1e3 * sorted[rank == 0 ? 0 : rank > count ? count - 1 : rank - 1];
}

static void print_times(const char *name, struct load_times *t)
{
    if (t->count > 0)
        qsort(t->s, t->count, sizeof(*t->s), compare);
    printf(", \"%s\": {\"p50\": %.3f, \"p95\": %.3f, \"p99\": %.3f, \"max\": %.3f}", name,
           percentile_ms(t->s, t->count, 0.5), percentile_ms(t->s, t->count, 0.95),
           percentile_ms(t->s, t->count, 0.99), percentile_ms(t->s, t->count, 1));
    free(t->s);
}

void load_stats_print(struct load_stats *s, const struct load_options *options)
{
    double seconds = s->to_s - s->from_s;
    const char *comma = "";

    printf("{\"connections\": %d, \"requests\": %zu, \"answered\": %ld, \"failed\": %ld, "
           "\"failures\": {",
           options->connections, s->requests, s->answered, s->failed);
    for (int i = 0; i < LOAD_STATUS_MAX; i++) {
        if (s->failures[i] == 0)
            continue;
        if (i == 0)
            printf("\"broken\": %ld", s->failures[i]);
        else
            printf("%s\"%d\": %ld", comma, i, s->failures[i]);
        comma = ", ";
    }
    printf("}, \"seconds\": %.6f, \"per_second\": %.3f, \"client_cpu_s\": %.6f", seconds,
           seconds > 0 ? (double)s->requests / seconds : 0, s->cpu_to_s - s->cpu_from_s);
    if (options->rate > 0) {
        printf(", \"rate\": %.3f, \"refused\": %zu, \"without_retry_after\": %ld", options->rate,
               s->refused.count, s->without_retry_after);
        print_times("refused_ms", &s->refused);
        print_times("late_ms", &s->late);
    }
    print_times("latency_ms", &s->latency);
    printf("}\n");
}
