/* The catalogue with many rows: how long a page takes, and what an upload pays for its row.
 * catalogue ROWS PAGES ADDS FOLDER [URL]
 * The rows are made by one statement. Then pages at random places are read, in turn without a
 * filter and with each; then uploads' events are committed to an outbox, without a row and with
 * one. */
#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"

#include "base/clock.h"
#include "base/xmalloc.h"
#include "program.h"

#include <stdio.h>
#include <string.h>

enum { WAIT_MS = 600000, LABELS = 1000 };

static const char rows_sql[] =
    "INSERT INTO image (seq, id, owner, format, width, height, bytes, label, confidence, labels)"
    " SELECT n * 1000, %s, CASE WHEN n %% 10 = 0 THEN 'user' || (n %% 997) ELSE '' END, 'jpeg', "
    "256,"
    " 256, 12345, 'label ' || (n * 7919 %% 1000), 0.5, '[[\"label ' || (n * 7919 %% 1000) ||"
    " '\",0.5],[\"another\",0.2]]' FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 "
    "FROM c"
    " WHERE n < ?1) SELECT n FROM c) AS numbers";
static const char tags_sql[] = "INSERT INTO image_tag (tag, seq) SELECT label, seq FROM image"
                               " ORDER BY label, seq";

struct fill {
    int64_t rows;
    bool sqlite;
};

static bool fill(void *ctx, struct db_session *s, struct error *err)
{
    struct fill *f = ctx;
    char sql[2048];

    snprintf(sql, sizeof(sql), rows_sql,
             f->sqlite ? "lower(hex(randomblob(32)))"
                       : "md5(random()::text) || md5(random()::text)");
    return db_run(s, sql, DB_ARGS(db_int(f->rows)), NULL, err) &&
           db_run(s, tags_sql, DB_NO_ARGS, NULL, err);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double clock_s(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Prints p50 and p99 in milliseconds; the latter also of CPU time, which other programs do not
 * disturb. */
static bool read_pages(struct catalogue *c, const char *name, int64_t rows, int pages, int kind,
                       struct error *err)
{
    double *ms = xcalloc((size_t)pages, sizeof(*ms)), *cpu = xcalloc((size_t)pages, sizeof(*cpu));
    bool ok = true;

    for (int i = 0; ok && i < pages; i++) {
        char label[32], owner[32];
        json_t *images = NULL;
        int64_t next;
        snprintf(label, sizeof(label), "label %ld", random() % LABELS);
        snprintf(owner, sizeof(owner), "user%ld", random() % 997);
        struct catalogue_filter filter = {
            .label = kind == 1 || kind == 4 ? label : NULL,
            .tag = kind == 2 ? label : NULL,
            .owner = kind == 3 || kind == 4 ? owner : NULL,
            .before = i % 4 == 0 ? 0 : (random() % rows + 1) * 1000,
            .limit = CATALOGUE_LIMIT,
        };
        double started = clock_monotonic_s(), began = clock_s(CLOCK_THREAD_CPUTIME_ID);
        ok = catalogue_list(c, &filter, &images, &next, clock_monotonic_ms() + WAIT_MS, err);
        ms[i] = 1e3 * (clock_monotonic_s() - started);
        cpu[i] = 1e3 * (clock_s(CLOCK_THREAD_CPUTIME_ID) - began);
        json_decref(images);
    }
    qsort(ms, (size_t)pages, sizeof(*ms), compare);
    qsort(cpu, (size_t)pages, sizeof(*cpu), compare);
    printf("%s\"%s\": {\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p99_cpu_ms\": %.3f}",
           kind == 0 ? "" : ", ", name, ms[pages / 2], ms[pages * 99 / 100], cpu[pages * 99 / 100]);
    free(cpu);
    free(ms);
    return ok;
}

/* What POST /preprocess does for its event, and for its row if there is a catalogue. */
static bool upload(struct outbox *outbox, struct catalogue *c, int64_t n, struct error *err)
{
    struct object_name name = {.format = IMAGE_JPEG};
    char text[32], uri[128], event_id[UUID_LEN + 1];
    int len = snprintf(text, sizeof(text), "%lld", (long long)n);
    const struct bytes part = bytes_of(text, (size_t)len);
    int64_t seq = 0, deadline_ms = clock_monotonic_ms() + WAIT_MS;

    if (!string_sha256_hex(&part, 1, name.id, err))
        return false;
    snprintf(uri, sizeof(uri), "file:///data/%s.jpg", name.id);
    struct catalogue_upload row = {
        .name = name, .owner = "", .width = 256, .height = 256, .bytes = 12345};
    CLEANUP_FREE char *record = c != NULL ? catalogue_record(c, &row) : NULL;
    return outbox_add(outbox,
                      &(struct event){.gcs_path = uri,
                                      .id = name.id,
                                      .content_type = "image/jpeg",
                                      .traceparent = "",
                                      .record = record,
                                      .record_seq = &seq},
                      deadline_ms, event_id, err) &&
           (c == NULL || catalogue_add(c, &row, seq, deadline_ms, err));
}

static bool uploads(struct outbox *outbox, struct catalogue *c, int64_t first, int64_t count,
                    double *cpu_us, struct error *err)
{
    double started = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    bool ok = true;

    for (int64_t n = first; ok && n < first + count; n++)
        ok = upload(outbox, c, n, err);
    *cpu_us = 1e6 * (clock_s(CLOCK_PROCESS_CPUTIME_ID) - started) / (double)count;
    return ok;
}

static bool measure(struct catalogue *c, struct outbox *outbox, char **argv, struct error *err)
{
    static const char *const names[] = {"all", "label", "tag", "owner", "label_owner"};
    struct fill f = {.rows = atoll(argv[1]), .sqlite = db_is_sqlite(c->db)};
    double began = clock_monotonic_s();
    double without = 0, with = 0;
    int64_t adds = atoll(argv[3]);

    if (!db_write(c->db, fill, &f, clock_monotonic_ms() + WAIT_MS, err))
        return false;
    db_tidy(c->db);
    printf("{\"rows\": %lld, \"fill_s\": %.1f, \"pages\": {", (long long)f.rows,
           clock_monotonic_s() - began);
    for (int i = 0; i < (int)ARRAY_SIZE(names); i++)
        if (!read_pages(c, names[i], f.rows, atoi(argv[2]), i, err))
            return false;
    if (!uploads(outbox, NULL, 0, adds, &without, err) ||
        !uploads(outbox, c, adds, adds, &with, err))
        return false;
    printf("}, \"upload_cpu_us\": {\"without\": %.1f, \"with\": %.1f}}\n", without, with);
    return true;
}

int main(int argc, char **argv)
{
    struct error err = {0};

    if (argc < 5)
        return 2;
    CLEANUP_FREE char *store_url = xasprintf("file://%s/objects", argv[4]);
    CLEANUP_FREE char *path = xasprintf("%s/outbox.db", argv[4]);
    CLEANUP_FREE char *file = xasprintf("sqlite:%s/catalogue.db", argv[4]);
    struct store *store = store_open(&(struct store_options){.url = store_url}, &err);
    struct outbox *outbox =
        store != NULL
            ? outbox_open(&(struct outbox_options){.path = path, .max_pending = INT64_MAX}, &err)
            : NULL;
    struct catalogue *c =
        outbox != NULL
            ? catalogue_open(&(struct catalogue_options){.url = argc > 5 ? argv[5] : file,
                                                         .store = store,
                                                         .outbox = outbox,
                                                         .keep = false},
                             &err)
            : NULL;
    bool ok = c != NULL && measure(c, outbox, argv, &err);

    if (!ok)
        fprintf(stderr, "%s\n", err.message);
    catalogue_close(c);
    outbox_close(outbox);
    store_free(store);
    return ok ? 0 : 1;
}
