#include "../test_cases.h"
#include "base/metrics.h"

#include <pthread.h>

enum { TEXT_MAX = 1024 * 1024 };

static char *rendered(void)
{
    struct buffer out = BUFFER_MAX(TEXT_MAX);
    struct error err = {0};

    assert_true(metrics_render(&out, &err));
    assert_non_null(buffer_cstr(&out, &err));
    return (char *)out.data;
}

static void assert_line(const char *text, const char *line)
{
    size_t len = strlen(line);

    for (const char *p = strstr(text, line); p != NULL; p = strstr(p + 1, line))
        if ((p == text || p[-1] == '\n') && p[len] == '\n')
            return;
    fail_msg("no line %s in\n%s", line, text);
}

TEST(counters_add_up)
{
    metric_add(METRIC_EVENTS, "outcome=\"delivered\"", 1);
    metric_add(METRIC_EVENTS, "outcome=\"delivered\"", 2);
    metric_add(METRIC_EVENTS, "outcome=\"dead\"", 1);
    CLEANUP_FREE char *text = rendered();
    assert_line(text, "# TYPE events_total counter");
    assert_line(text, "events_total{outcome=\"delivered\"} 3");
    assert_line(text, "events_total{outcome=\"dead\"} 1");
}

static double eleven(void *ctx)
{
    return *(int *)ctx;
}

TEST(gauges_are_read)
{
    int value = 11;

    metric_gauge_source(METRIC_CONNECTIONS, eleven, &value);
    CLEANUP_FREE char *with = rendered();
    assert_line(with, "connections 11");
    metric_gauge_clear(METRIC_CONNECTIONS);
    CLEANUP_FREE char *without = rendered();
    assert_null(strstr(without, "\nconnections "));
}

TEST(histograms_are_cumulative)
{
    static const char labels[] = "stage=\"decode\"";

    metric_observe(METRIC_STAGE_DURATION, labels, 0.001); /* bounds are inclusive */
    metric_observe(METRIC_STAGE_DURATION, labels, 0.002);
    metric_observe(METRIC_STAGE_DURATION, labels, 100);
    CLEANUP_FREE char *text = rendered();
    assert_line(text, "# TYPE stage_duration_seconds histogram");
    assert_line(text, "stage_duration_seconds_bucket{stage=\"decode\",le=\"0.001\"} 1");
    assert_line(text, "stage_duration_seconds_bucket{stage=\"decode\",le=\"0.0025\"} 2");
    assert_line(text, "stage_duration_seconds_bucket{stage=\"decode\",le=\"30\"} 2");
    assert_line(text, "stage_duration_seconds_bucket{stage=\"decode\",le=\"+Inf\"} 3");
    assert_line(text, "stage_duration_seconds_count{stage=\"decode\"} 3");
    assert_line(text, "stage_duration_seconds_sum{stage=\"decode\"} 100.003");
}

TEST(large_counts_stay_exact)
{
    metric_add(METRIC_EVENTS, "outcome=\"large\"", 123456789012345.0);
    metric_add(METRIC_EVENTS, "outcome=\"large\"", 1);
    CLEANUP_FREE char *text = rendered();
    assert_line(text, "events_total{outcome=\"large\"} 123456789012346");
}

TEST(series_are_bounded)
{
    char labels[METRIC_LABELS_MAX + 8];
    size_t lines = 0;

    for (int i = 0; i < METRIC_SERIES_MAX + 50; i++) {
        snprintf(labels, sizeof(labels), "route=\"r%d\",code=\"200\"", i);
        metric_add(METRIC_HTTP_REQUESTS, labels, 1);
    }
    memset(labels, 'x', METRIC_LABELS_MAX);
    labels[METRIC_LABELS_MAX] = '\0';
    metric_add(METRIC_HTTP_REQUESTS, labels, 1);
    metric_add(METRIC_EVENTS, labels, 1); /* a family with room: too long all the same */
    CLEANUP_FREE char *text = rendered();
    for (const char *p = text; (p = strstr(p, "\nhttp_requests_total{")) != NULL; p++)
        lines++;
    assert_int_equal(lines, METRIC_SERIES_MAX);
    assert_null(strstr(text, "xxx"));
}

TEST(the_process_is_told_of)
{
    double value = 0;

    SKIP_WITHOUT_PROC();
    CLEANUP_FREE char *text = rendered();
    const char *rss = strstr(text, "\nprocess_resident_memory_bytes ");
    assert_non_null(rss);
    assert_int_equal(sscanf(rss, "\nprocess_resident_memory_bytes %lf", &value), 1);
    assert_true(value > 100e3 && value < 1e12);
    const char *fds = strstr(text, "\nprocess_open_fds ");
    assert_non_null(fds);
    assert_int_equal(sscanf(fds, "\nprocess_open_fds %lf", &value), 1);
    assert_true(value >= 3 && value < 1000);
    assert_non_null(strstr(text, "\nprocess_cpu_seconds_total "));
}

TEST(no_room_is_an_error)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(100);
    struct error err = {0};

    assert_fails(err, ERROR_TOO_LARGE, metrics_render(&out, &err));
}

static void *add_many(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        metric_add(METRIC_EVENTS, "outcome=\"many\"", 1);
        metric_observe(METRIC_HTTP_DURATION, "route=\"/many\"", 0.01);
    }
    return NULL;
}

TEST(threads_lose_nothing)
{
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    for (int i = 0; i < 20; i++)
        free(rendered());
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CLEANUP_FREE char *text = rendered();
    assert_line(text, "events_total{outcome=\"many\"} 40000");
    assert_line(text, "http_request_duration_seconds_count{route=\"/many\"} 40000");
}

TEST_MAIN(NULL, NULL)
