#include "load.h"

#include "program.h"

#include <stdlib.h>

void load_stats_add(struct load_stats *s, double latency_s)
{
    if (s->latencies == s->room) {
        s->room = s->room == 0 ? 4096 : 2 * s->room;
        s->latency_s = realloc(s->latency_s, s->room * sizeof(*s->latency_s));
        if (s->latency_s == NULL)
            die("out of memory");
    }
    s->latency_s[s->latencies++] = latency_s;
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

static void print_latency(const char *name, double *values, size_t count)
{
    if (count > 0)
        qsort(values, count, sizeof(*values), compare);
    printf(", \"%s\": {\"p50\": %.3f, \"p95\": %.3f, \"p99\": %.3f, \"max\": %.3f}", name,
           percentile_ms(values, count, 0.5), percentile_ms(values, count, 0.95),
           percentile_ms(values, count, 0.99), percentile_ms(values, count, 1));
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
    print_latency("latency_ms", s->latency_s, s->latencies);
    printf("}\n");
    free(s->latency_s);
}
