/* Memory runs out in the outbox and the publishers, SQLite's included (see alloc_faults.h): nothing
 * acknowledged is lost, and no database is taken for damaged that is not. */
#include "alloc_faults.h"

#include "base/clock.h"
#include "base/xmalloc.h"
#include "client/http_client.h"
#include "events/outbox/outbox.h"
#include "events/outbox/outbox_admin.h"
#include "events/outbox/push.h"
#include "events/pubsub/pubsub.h"
#include "test_folder.h"

#include <fcntl.h>

static struct http_client *client;
static char dir[TEST_FOLDER_MAX];
static char path[128];

/* ---- helpers */

static void remove_outbox(void)
{
    test_folder_remove(dir);
    assert_int_equal(mkdir(dir, 0700), 0);
}

static size_t files_open(void)
{
    DIR *all = __real_opendir("/proc/self/fd");
    size_t count = 0;

    while (readdir(all) != NULL)
        count++;
    closedir(all);
    return count;
}

static struct outbox *open_it(struct error *err)
{
    return outbox_open(&(struct outbox_options){.path = path, .max_pending = 1000}, err);
}

static bool add(struct outbox *o, int n, struct error *err)
{
    char event_id[UUID_LEN + 1];
    char id[SHA256_HEX_LEN + 1];
    char uri[128];

    snprintf(id, sizeof(id), "%064d", n);
    snprintf(uri, sizeof(uri), "file:///data/%s.jpg", id);
    if (!outbox_add(o,
                    &(struct event){
                        .gcs_path = uri, .id = id, .content_type = "image/jpeg", .traceparent = ""},
                    clock_monotonic_ms() + 10000, event_id, err))
        return false;
    assert_int_equal(strlen(event_id), UUID_LEN);
    return true;
}

/* ---- scenarios */

static bool open_and_close(void *ctx, struct error *err)
{
    sqlite3_int64 before = sqlite3_memory_used();
    struct outbox *o = open_it(err);

    outbox_close(o);
    assert_true(sqlite3_memory_used() <= before);
    assert_int_equal(test_folder_count(dir, "a/outbox.db.corrupt*"), 0);
    return o != NULL;
}

/* From nothing, each time. */
static bool create(void *ctx, struct error *err)
{
    remove_outbox();
    return open_and_close(ctx, err);
}

static bool add_three(struct outbox *o, struct error *err)
{
    int added = 0;

    for (int n = 0; n < 3; n++)
        added += add(o, n, err);
    assert_true(outbox_pending(o) >= added);
    return added == 3;
}

/* Take what there is; each row once, and every way of settling it. */
static bool settle_all(struct outbox *o, struct error *err)
{
    for (int n = 0; outbox_pending(o) > 0; n++) {
        CLEANUP(outbox_row_done) struct outbox_row row = {0};
        if (!outbox_take(o, clock_monotonic_ms() + 50, &row))
            return error_oom(err);
        assert_int_equal(strlen(row.event_id), UUID_LEN);
        assert_non_null(strstr(row.gcs_path, row.id));
        if (n % 2 == 0)
            outbox_delivered(o, &row);
        else
            outbox_dead_letter(o, &row, "reason");
    }
    return true;
}

/* In an outbox that is open: what fails leaves it usable. */
static bool use(void *ctx, struct error *err)
{
    long left = alloc_faults.left;
    struct error later = {0};

    alloc_arm(0, alloc_faults.from_then_on);
    struct outbox *o = open_it(&later);
    assert_non_null(o);
    alloc_arm(left, alloc_faults.from_then_on);
    bool ok = add_three(o, err) && settle_all(o, err);
    bool failed = alloc_faults.failed;
    alloc_arm(0, alloc_faults.from_then_on);
    if (!ok && !add_three(o, &later))
        fail_msg("not usable any more: %s", later.message);
    assert_false(outbox_reconcile_needed(o));
    outbox_close(o);
    assert_int_equal(test_folder_count(dir, "a/outbox.db.corrupt*"), 0);
    alloc_faults.failed = failed;
    return ok;
}

static bool list(struct error *err)
{
    FILE *null = __real_fopen("/dev/null", "w");
    bool ok = outbox_admin_list(path, null, err);

    fclose(null);
    return ok;
}

static bool administer(void *ctx, struct error *err)
{
    int64_t count = 0;

    return list(err) && outbox_admin_requeue(path, NULL, &count, err) &&
           outbox_admin_purge(path, NULL, &count, err);
}

/* Three rows, then a damaged index: all rows are found, whatever failed at first. */
static bool recover(void *ctx, struct error *err)
{
    size_t descriptors = files_open();
    struct error first = {0};

    int64_t pending = 0;
    struct outbox *o = open_it(&first);
    if (o != NULL) {
        pending = outbox_pending(o);
        outbox_close(o);
    } else {
        *err = first;
    }
    assert_int_equal(files_open(), descriptors);
    return o != NULL && (pending == 3 || error_set(err, ERROR_INTERNAL, "rows are lost"));
}

/* The rows' own page comes first: see outbox_db_schema. */
static void damage(void)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "not a page of an index", 22, 3 * 4096), 22);
    close(fd);
}

static bool damage_and_recover(void *ctx, struct error *err)
{
    long left = alloc_faults.left;
    struct error setting_up = {0};

    alloc_arm(0, alloc_faults.from_then_on);
    remove_outbox();
    struct outbox *o = open_it(&setting_up);
    assert_non_null(o);
    assert_true(add_three(o, &setting_up));
    outbox_close(o);
    damage();
    alloc_arm(left, alloc_faults.from_then_on);
    if (recover(ctx, err))
        return true;
    bool failed = alloc_faults.failed;
    alloc_arm(0, alloc_faults.from_then_on);
    if (!recover(ctx, &setting_up)) /* the next start finds all of them */
        fail_msg("%s", setting_up.message);
    alloc_faults.failed = failed;
    return false;
}

/* ---- tests */

TEST_WITH(test_open, NULL, alloc_faults_teardown)
{
    alloc_faults_run("create", create, NULL);
    alloc_faults_run("open", open_and_close, NULL);
}

TEST_WITH(test_use, NULL, alloc_faults_teardown)
{
    remove_outbox();
    alloc_faults_run("add, take, settle", use, NULL);
    alloc_faults_run("operator's commands", administer, NULL);
}

TEST_WITH(test_recover, NULL, alloc_faults_teardown)
{
    alloc_faults_run("recover", damage_and_recover, NULL);
}

static bool start_pushing(void *ctx, struct error *err)
{
    const struct push_options options = {.url = "http://127.0.0.1:1/",
                                         .token = "t",
                                         .client = client,
                                         .concurrency = 2,
                                         .max_attempts = 2};
    struct publisher *push = push_publisher_new(ctx, &options, err);

    if (push == NULL)
        return false;
    push->stop(push, clock_monotonic_ms() + 5000);
    push->free(push);
    return true;
}

TEST_WITH(test_push, NULL, alloc_faults_teardown)
{
    struct error err = {0};

    remove_outbox();
    struct outbox *o = open_it(&err);
    assert_non_null(o);
    outbox_wake(o);
    alloc_faults_run("push", start_pushing, o); /* its threads */
    outbox_close(o);
}

/* Too late already: libcurl's own faults are test_alloc_faults_store.c's. */
static bool publish(void *ctx, struct error *err)
{
    const struct pubsub_message message = {.data = bytes_from_str("data"),
                                           .attributes = {{"a", "b"}}};
    char message_id[MESSAGE_ID_MAX];
    struct error refused = {0};

    assert_false(pubsub_publish(ctx, &message, clock_monotonic_ms() - 1, message_id, &refused));
    return refused.code == ERROR_DEADLINE || error_set(err, refused.code, "%s", refused.message);
}

TEST_WITH(test_pubsub, NULL, alloc_faults_teardown)
{
    const struct pubsub_options options = {
        .endpoint = "http://127.0.0.1:1", .topic = "projects/p/topics/t", .client = client};
    struct error err = {0};
    struct pubsub *pubsub = pubsub_new(&options, &err);

    assert_non_null(pubsub);
    alloc_faults_run("Pub/Sub", publish, pubsub);
    pubsub_free(pubsub);
}

static int begin(void **state)
{
    struct error err = {0};

    alloc_faults_hook();
    client = http_client_new(&(struct http_client_options){0}, &err);
    assert_non_null(client);
    int status = test_folder_make(dir);
    snprintf(path, sizeof(path), "%s/a/outbox.db", dir);
    return status;
}

static int end(void **state)
{
    http_client_free(client);
    return test_folder_remove(dir);
}

TEST_MAIN(begin, end)
