#include "base/clock.h"
#include "base/threads.h"
#include "events/outbox/outbox_admin.h"
#include "events/outbox/outbox_internal.h"

#include <string.h>

enum { PATH_MAX_LEN = 4000, RECONCILED_MS = 10000 };

void outbox_row_done(struct outbox_row *row)
{
    free(row->gcs_path);
    free(row->content_type);
    *row = (struct outbox_row){0};
}

void outbox_lease_free(struct lease *lease)
{
    outbox_row_done(&lease->row);
    free(lease);
}

/* ---- open and close */

static void leases_free(struct lease_list *list)
{
    struct lease *lease;

    while ((lease = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, lease, link);
        outbox_lease_free(lease);
    }
}

static void outbox_free(struct outbox *o)
{
    outbox_db_close(&o->db);
    leases_free(&o->ready);
    leases_free(&o->taken);
    if (o->lock_fd >= 0)
        close(o->lock_fd);
    pthread_cond_destroy(&o->ready_changed);
    pthread_cond_destroy(&o->work);
    pthread_mutex_destroy(&o->lock);
    free(o->path);
    free(o);
}

static struct outbox *outbox_alloc(const struct outbox_options *options)
{
    struct outbox *o = calloc(1, sizeof(*o));

    if (o == NULL || (o->path = strdup(options->path)) == NULL) {
        free(o);
        return NULL;
    }
    o->lock_fd = -1;
    o->max_pending = options->max_pending;
    o->wall_ms = options->wall_ms != NULL ? options->wall_ms : clock_wall_ms;
    pthread_mutex_init(&o->lock, NULL);
    thread_cond_init(&o->work);
    thread_cond_init(&o->ready_changed);
    TAILQ_INIT(&o->queue);
    TAILQ_INIT(&o->settlements);
    TAILQ_INIT(&o->ready);
    TAILQ_INIT(&o->taken);
    TAILQ_INIT(&o->unsettled);
    return o;
}

static bool open_all(struct outbox *o, int64_t lock_wait_ms, struct error *err)
{
    bool used_before;

    if (strlen(o->path) > PATH_MAX_LEN)
        return error_set(err, ERROR_CONFIG, "the path of the outbox is too long");
    if (!outbox_make_parents(o->path, err) ||
        (o->lock_fd = outbox_lock(o->path, lock_wait_ms, &used_before, err)) < 0)
        return false;
    /* a lock file without a database: somebody deleted the events that were waiting in it */
    bool lost = used_before && access(o->path, F_OK) != 0;
    if (!outbox_writer_start(o, err) || (lost && !outbox_admin_reconcile(o->path, err)))
        return false;
    o->tick_at_ms = clock_monotonic_ms() + OUTBOX_TICK_MS;
    return thread_start(&o->writer, outbox_writer_main, o, err);
}

struct outbox *outbox_open(const struct outbox_options *options, struct error *err)
{
    struct outbox *o = outbox_alloc(options);

    if (o == NULL) {
        error_oom(err);
        return NULL;
    }
    if (open_all(o, options->lock_wait_ms, err))
        return o;
    err->code = ERROR_CONFIG; /* whatever it was, the service cannot start with this path */
    error_wrap(err, "OUTBOX_PATH %s", options->path);
    outbox_free(o);
    return NULL;
}

void outbox_close(struct outbox *o)
{
    if (o == NULL)
        return;
    pthread_mutex_lock(&o->lock);
    o->stopping = true;
    pthread_cond_signal(&o->work);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->writer, NULL);
    if (o->suspect)
        outbox_db_abandon(&o->db);
    outbox_free(o);
}

/* ---- requests that are waited for */

/* With the lock held. True: the writer is done with it; false: withdrawn at the deadline. */
static bool wait_for_request(struct outbox *o, struct request *r, int64_t deadline_ms)
{
    while (!r->done) {
        if (r->started)
            pthread_cond_wait(&r->changed, &o->lock);
        else if (clock_left_ms(deadline_ms) > 0)
            thread_cond_wait(&r->changed, &o->lock, deadline_ms);
        else
            break;
    }
    if (!r->done)
        TAILQ_REMOVE(&o->queue, r, link);
    return r->done;
}

static bool run_request(struct outbox *o, struct request *r, int64_t deadline_ms, struct error *err)
{
    thread_cond_init(&r->changed);
    pthread_mutex_lock(&o->lock);
    TAILQ_INSERT_TAIL(&o->queue, r, link);
    if (!o->busy && !outbox_writer_first(o)) {
        outbox_turn(o, outbox_commit);
        outbox_call_taker(o);
    } else {
        outbox_call_writer(o);
    }
    bool done = wait_for_request(o, r, deadline_ms);
    pthread_mutex_unlock(&o->lock);
    pthread_cond_destroy(&r->changed);
    if (!done)
        return error_set(err, ERROR_DEADLINE, "no time left to store the event");
    if (r->err.code == ERROR_NONE)
        return true;
    *err = r->err;
    return false;
}

bool outbox_add(struct outbox *o, const struct event *event, int64_t deadline_ms,
                char event_id[UUID_LEN + 1], struct error *err)
{
    struct request r = {.kind = REQUEST_ADD, .event = event};

    if (strlen(event->id) > SHA256_HEX_LEN || strlen(event->gcs_path) > OUTBOX_TEXT_MAX ||
        strlen(event->content_type) > OUTBOX_TEXT_MAX ||
        strlen(event->traceparent) >= EVENT_TRACEPARENT_MAX)
        return error_set(err, ERROR_INTERNAL, "an event with a text that is too long");
    if (!string_uuid(r.event_id))
        return error_set(err, ERROR_UNAVAILABLE, "no random numbers for an event id");
    if (!run_request(o, &r, deadline_ms, err))
        return false;
    memcpy(event_id, r.event_id, sizeof(r.event_id));
    return true;
}

/* ---- taking and settling rows */

static struct lease *take_ready(struct outbox *o)
{
    struct lease *lease = TAILQ_FIRST(&o->ready);

    if (lease != NULL) {
        TAILQ_REMOVE(&o->ready, lease, link);
        TAILQ_INSERT_TAIL(&o->taken, lease, link);
    }
    return lease;
}

bool outbox_take(struct outbox *o, int64_t deadline_ms, struct outbox_row *ret)
{
    struct lease *lease = NULL;

    pthread_mutex_lock(&o->lock);
    o->takers++;
    while (!o->woken && (lease = take_ready(o)) == NULL) {
        bool wanted = outbox_wants_fetch(o, clock_monotonic_ms());
        if (wanted && !o->busy) {
            outbox_turn(o, outbox_fetch);
            continue;
        }
        o->fetch_asked = wanted;
        if (clock_left_ms(deadline_ms) == 0)
            break;
        outbox_call_writer(o);
        thread_cond_wait(&o->ready_changed, &o->lock, deadline_ms);
    }
    o->takers--;
    if (lease != NULL) {
        *ret = lease->row;
        lease->row.gcs_path = NULL;
        lease->row.content_type = NULL;
        outbox_call_taker(o); /* for the next one */
    }
    pthread_mutex_unlock(&o->lock);
    return lease != NULL;
}

static struct lease *find_taken(struct outbox *o, const struct outbox_row *row)
{
    struct lease *lease;

    TAILQ_FOREACH(lease, &o->taken, link)
    {
        if (!lease->settling && lease->row.seq == row->seq &&
            strcmp(lease->row.event_id, row->event_id) == 0)
            return lease;
    }
    return NULL;
}

void outbox_put_back(struct outbox *o, const struct outbox_row *row)
{
    pthread_mutex_lock(&o->lock);
    struct lease *lease = find_taken(o, row);
    if (lease != NULL) {
        TAILQ_REMOVE(&o->taken, lease, link);
        outbox_lease_free(lease);
        o->leases--;
        o->fetch_now = true;
        pthread_cond_signal(&o->ready_changed);
    }
    pthread_mutex_unlock(&o->lock);
}

/* Not waited for, so that it goes into the next commit of others: until the commit nobody else gets
 * the row, and a settlement that is lost with the process means one more delivery. */
static bool settle(struct outbox *o, const struct outbox_row *row, const struct request *request,
                   struct error *err)
{
    pthread_mutex_lock(&o->lock);
    struct lease *lease = find_taken(o, row);
    if (lease != NULL) {
        lease->settling = true;
        lease->settle = *request;
        lease->settle.lease = lease;
        o->settling_pending += request->kind != REQUEST_REFUSED;
        o->settling_dead += request->kind == REQUEST_BURY;
        TAILQ_INSERT_TAIL(&o->settlements, &lease->settle, link);
        if (++o->settlement_count == 1)
            o->settle_at_ms = clock_monotonic_ms() + OUTBOX_SETTLE_MS;
        if (request->kind != REQUEST_DELIVERED) /* rare, and operators look for it */
            o->settle_at_ms = 0;
        outbox_call_writer(o);
    }
    pthread_mutex_unlock(&o->lock);
    return lease != NULL || error_set(err, ERROR_INTERNAL, "a row that was not taken is settled");
}

bool outbox_delivered(struct outbox *o, const struct outbox_row *row, struct error *err)
{
    return settle(o, row, &(struct request){.kind = REQUEST_DELIVERED}, err);
}

bool outbox_refused(struct outbox *o, const struct outbox_row *row, int64_t retry_after_ms,
                    const char *reason, struct error *err)
{
    struct request r = {.kind = REQUEST_REFUSED};

    if (retry_after_ms > OUTBOX_BACKOFF_MAX_MS)
        retry_after_ms = OUTBOX_BACKOFF_MAX_MS;
    r.not_before_ms = o->wall_ms() + retry_after_ms;
    snprintf(r.reason, sizeof(r.reason), "%s", reason);
    return settle(o, row, &r, err);
}

bool outbox_bury(struct outbox *o, const struct outbox_row *row, const char *reason,
                 struct error *err)
{
    struct request r = {.kind = REQUEST_BURY};

    snprintf(r.reason, sizeof(r.reason), "%s", reason);
    return settle(o, row, &r, err);
}

void outbox_wake(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    o->woken = true;
    pthread_cond_broadcast(&o->ready_changed);
    pthread_mutex_unlock(&o->lock);
}

/* ---- what is known */

static struct outbox_counts counts_now(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    struct outbox_counts counts = o->counts;
    counts.pending -= o->settling_pending;
    counts.dead += o->settling_dead;
    pthread_mutex_unlock(&o->lock);
    return counts;
}

int64_t outbox_pending(struct outbox *o)
{
    int64_t pending = counts_now(o).pending;

    return pending > 0 ? pending : 0; /* settled rows may have been lost to damage */
}

int64_t outbox_dead(struct outbox *o)
{
    return counts_now(o).dead;
}

bool outbox_reconcile_needed(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    o->reconcile_reported = o->counts.reconcile;
    bool needed = o->reconcile_reported != 0;
    pthread_mutex_unlock(&o->lock);
    return needed;
}

bool outbox_reconcile_finished(struct outbox *o, struct error *err)
{
    struct request r = {.kind = REQUEST_RECONCILED};

    pthread_mutex_lock(&o->lock);
    r.reconcile = o->reconcile_reported;
    pthread_mutex_unlock(&o->lock);
    return run_request(o, &r, clock_monotonic_ms() + RECONCILED_MS, err);
}
