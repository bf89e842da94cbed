#include "base/metrics.h"

#include <dirent.h>
#include <pthread.h>
#include <string.h>

enum metric_type { COUNTER, GAUGE, HISTOGRAM };

/* Upper bounds in seconds: from a health check to the longest request. */
static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                0.25,  0.5,    1,     2.5,  5,     10,   30};
enum { BOUNDS = ARRAY_SIZE(bounds) };

struct series {
    char labels[METRIC_LABELS_MAX];
    double value;                 /* counter, gauge; histogram: the sum */
    uint64_t buckets[BOUNDS + 1]; /* histogram, not cumulative */
};

struct family {
    const char *name;
    enum metric_type type;
    const char *help;
    struct series *series;
    size_t count;
    double (*read)(void *ctx);
    void *ctx;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct family families[] = {
#define X(symbol, name_, type_, help_) [symbol] = {.name = name_, .type = type_, .help = help_},
    METRIC_TABLE(X)
#undef X
};

/* The series of these labels, made if need be; NULL when there is no room. Called locked. */
static struct series *find(struct family *family, const char *labels)
{
    for (size_t i = 0; i < family->count; i++)
        if (strcmp(family->series[i].labels, labels) == 0)
            return &family->series[i];
    if (family->count == METRIC_SERIES_MAX || strlen(labels) >= METRIC_LABELS_MAX)
        return NULL;
    if (family->count % 16 == 0) {
        struct series *more =
            reallocarray(family->series, family->count + 16, sizeof(struct series));
        if (more == NULL)
            return NULL;
        family->series = more;
    }
    struct series *new = &family->series[family->count++];
    *new = (struct series){0};
    memcpy(new->labels, labels, strlen(labels) + 1);
    return new;
}

void metric_add(enum metric metric, const char *labels, double amount)
{
    pthread_mutex_lock(&mutex);
    struct series *series = find(&families[metric], labels);
    if (series != NULL)
        series->value += amount;
    pthread_mutex_unlock(&mutex);
}

void metric_observe(enum metric metric, const char *labels, double seconds)
{
    size_t bucket = 0;

    while (bucket < BOUNDS && seconds > bounds[bucket])
        bucket++;
    pthread_mutex_lock(&mutex);
    struct series *series = find(&families[metric], labels);
    if (series != NULL) {
        series->value += seconds;
        series->buckets[bucket]++;
    }
    pthread_mutex_unlock(&mutex);
}

void metric_gauge_source(enum metric metric, double (*read)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&mutex);
    families[metric].read = read;
    families[metric].ctx = ctx;
    pthread_mutex_unlock(&mutex);
}

void metric_gauge_clear(enum metric metric)
{
    metric_gauge_source(metric, NULL, NULL);
}

static bool render_sample(const char *name, const char *labels, double value, struct buffer *out,
                          struct error *err)
{
    return *labels != '\0' ? buffer_printf(out, err, "%s{%s} %.15g\n", name, labels, value)
                           : buffer_printf(out, err, "%s %.15g\n", name, value);
}

static bool render_histogram(const char *name, const struct series *s, struct buffer *out,
                             struct error *err)
{
    const char *comma = *s->labels != '\0' ? "," : "";
    uint64_t total = 0;

    for (size_t i = 0; i <= BOUNDS; i++) {
        char bound[32] = "+Inf";
        if (i < BOUNDS)
            snprintf(bound, sizeof(bound), "%g", bounds[i]);
        total += s->buckets[i];
        if (!buffer_printf(out, err, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, s->labels, comma,
                           bound, (unsigned long long)total))
            return false;
    }
    char part[64];
    snprintf(part, sizeof(part), "%s_sum", name);
    if (!render_sample(part, s->labels, s->value, out, err))
        return false;
    snprintf(part, sizeof(part), "%s_count", name);
    return render_sample(part, s->labels, (double)total, out, err);
}

static bool render_family(const struct family *f, struct buffer *out, struct error *err)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};

    if (f->count == 0 && f->read == NULL)
        return true;
    if (!buffer_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
                       types[f->type]))
        return false;
    if (f->read != NULL)
        return render_sample(f->name, "", f->read(f->ctx), out, err);
    for (size_t i = 0; i < f->count; i++) {
        const struct series *s = &f->series[i];
        if (!(f->type == HISTOGRAM ? render_histogram(f->name, s, out, err)
                                   : render_sample(f->name, s->labels, s->value, out, err)))
            return false;
    }
    return true;
}

/* The standard process_* metrics, from /proc/self (proc(5)). */
static bool render_process(struct buffer *out, struct error *err)
{
    unsigned long long user = 0, system = 0;
    long rss_pages = 0;
    long fds = -1; /* the descriptor used for counting is not counted */

    CLEANUP_FCLOSE FILE *stat = fopen("/proc/self/stat", "re");
    if (stat == NULL || fscanf(stat,
                               "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu "
                               "%*d %*d %*d %*d %*d %*d %*u %*u %ld",
                               &user, &system, &rss_pages) != 3)
        return true;
    DIR *dir = opendir("/proc/self/fd");
    if (dir != NULL) {
        while (readdir(dir) != NULL)
            fds++;
        closedir(dir);
    }
    double ticks = (double)sysconf(_SC_CLK_TCK);
    return buffer_printf(
        out, err,
        "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %.15g\n"
        "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %.15g\n"
        "# TYPE process_open_fds gauge\nprocess_open_fds %ld\n",
        (double)(user + system) / ticks, (double)rss_pages * (double)sysconf(_SC_PAGESIZE),
        fds - 2);
}

bool metrics_render(struct buffer *out, struct error *err)
{
    bool ok = true;

    pthread_mutex_lock(&mutex);
    for (size_t i = 0; ok && i < ARRAY_SIZE(families); i++)
        ok = render_family(&families[i], out, err);
    pthread_mutex_unlock(&mutex);
    return ok && render_process(out, err);
}
