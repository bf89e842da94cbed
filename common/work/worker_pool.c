#include "work/worker_pool.h"

#include "base/clock.h"
#include "base/threads.h"

#include <sys/resource.h>
#include <sys/syscall.h>

enum { NICENESS = 5 };

enum ticket_state { WAITING, RUNNING, ENDED };

/* One worker_pool_run call; lives on its caller's stack. */
struct ticket {
    const struct worker_job *job;
    int64_t deadline_ms;
    enum ticket_state state;
    atomic_bool cancelled;
    pthread_cond_t changed;
    struct ticket *next; /* in the queue, or in the list of running ones */
};

struct worker_pool {
    struct worker_pool_options options;
    pthread_mutex_t mutex;
    pthread_cond_t work; /* a ticket was queued, or stopping */
    struct ticket *queue;
    struct ticket **queue_end;
    struct ticket *running;
    int depth;
    int busy;
    int64_t cut_ms; /* no deadline is later than this */
    bool stopping;
    pthread_cond_t started;
    int ready; /* threads whose state is made */
    bool failed;
    struct error failure;
    int threads;
    pthread_t *thread;
};

static void list_remove(struct ticket **list, const struct ticket *ticket)
{
    while (*list != ticket)
        list = &(*list)->next;
    *list = ticket->next;
}

/* Called locked. */
static void queue_remove(struct worker_pool *pool, struct ticket *ticket)
{
    list_remove(&pool->queue, ticket);
    if (pool->queue_end == &ticket->next) {
        pool->queue_end = &pool->queue;
        while (*pool->queue_end != NULL)
            pool->queue_end = &(*pool->queue_end)->next;
    }
    pool->depth--;
}

static void run_one(struct worker_pool *pool, void *state)
{
    struct ticket *ticket = pool->queue;

    queue_remove(pool, ticket);
    ticket->state = RUNNING;
    ticket->next = pool->running;
    pool->running = ticket;
    pool->busy++;
    pthread_mutex_unlock(&pool->mutex);

    ticket->job->run(state, ticket->job->arg, &ticket->cancelled);

    pthread_mutex_lock(&pool->mutex);
    list_remove(&pool->running, ticket);
    pool->busy--;
    ticket->state = ENDED;
    pthread_cond_signal(&ticket->changed);
}

static void *worker_main(void *arg)
{
    struct worker_pool *pool = arg;
    struct error err = {0};
    void *state = NULL;
    bool ok = true;

    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICENESS);
    if (pool->options.state_new != NULL) {
        state = pool->options.state_new(pool->options.ctx, &err);
        ok = state != NULL;
    }
    pthread_mutex_lock(&pool->mutex);
    if (!ok) {
        pool->failed = true;
        pool->failure = err;
    }
    pool->ready++;
    pthread_cond_signal(&pool->started);
    while (ok && !(pool->stopping && pool->queue == NULL)) {
        if (pool->queue == NULL)
            pthread_cond_wait(&pool->work, &pool->mutex);
        else
            run_one(pool, state);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (pool->options.state_free != NULL)
        pool->options.state_free(state);
    return NULL;
}

struct worker_pool *worker_pool_new(const struct worker_pool_options *options, struct error *err)
{
    struct worker_pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL ||
        (pool->thread = calloc((size_t)options->workers, sizeof(pthread_t))) == NULL) {
        free(pool);
        error_oom(err);
        return NULL;
    }
    pool->options = *options;
    pthread_mutex_init(&pool->mutex, NULL);
    thread_cond_init(&pool->work);
    thread_cond_init(&pool->started);
    pool->queue_end = &pool->queue;
    pool->cut_ms = INT64_MAX;
    while (pool->threads < options->workers &&
           pthread_create(&pool->thread[pool->threads], NULL, worker_main, pool) == 0)
        pool->threads++;
    pthread_mutex_lock(&pool->mutex);
    while (pool->ready < pool->threads)
        pthread_cond_wait(&pool->started, &pool->mutex);
    bool failed = pool->failed;
    if (failed)
        *err = pool->failure;
    pthread_mutex_unlock(&pool->mutex);
    if (!failed && pool->threads == options->workers)
        return pool;
    if (!failed)
        error_set(err, ERROR_OVERLOADED, "cannot start %d worker threads", options->workers);
    worker_pool_free(pool);
    return NULL;
}

void worker_pool_free(struct worker_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->threads; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->started);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->thread);
    free(pool);
}

/* Wait until the ticket has ended, or was withdrawn because its deadline passed in the queue.
 * Called locked. */
static bool wait_for(struct worker_pool *pool, struct ticket *ticket, struct error *err)
{
    while (ticket->state != ENDED) {
        int64_t deadline = ticket->deadline_ms < pool->cut_ms ? ticket->deadline_ms : pool->cut_ms;
        if (clock_left_ms(deadline) > 0) {
            struct timespec until = clock_timespec(deadline);
            pthread_cond_timedwait(&ticket->changed, &pool->mutex, &until);
        } else if (ticket->state == WAITING) {
            queue_remove(pool, ticket);
            return error_set(err, ERROR_DEADLINE, "no worker was free in time");
        } else {
            atomic_store(&ticket->cancelled, true);
            pthread_cond_wait(&ticket->changed, &pool->mutex);
        }
    }
    return true;
}

bool worker_pool_run(struct worker_pool *pool, const struct worker_job *job, int64_t deadline_ms,
                     struct error *err)
{
    struct ticket ticket = {.job = job, .deadline_ms = deadline_ms};
    bool ok;

    thread_cond_init(&ticket.changed);
    pthread_mutex_lock(&pool->mutex);
    if (pool->depth >= pool->options.queue_max + pool->threads - pool->busy) {
        ok = error_set(err, ERROR_OVERLOADED, "%d jobs are waiting already", pool->depth);
    } else {
        *pool->queue_end = &ticket;
        pool->queue_end = &ticket.next;
        pool->depth++;
        pthread_cond_signal(&pool->work);
        ok = wait_for(pool, &ticket, err);
    }
    pthread_mutex_unlock(&pool->mutex);
    pthread_cond_destroy(&ticket.changed);
    return ok;
}

void worker_pool_cut_deadlines(struct worker_pool *pool, int64_t deadline_ms)
{
    pthread_mutex_lock(&pool->mutex);
    pool->cut_ms = deadline_ms;
    for (struct ticket *t = pool->queue; t != NULL; t = t->next)
        pthread_cond_signal(&t->changed);
    for (struct ticket *t = pool->running; t != NULL; t = t->next)
        pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&pool->mutex);
}

bool worker_pool_is_full(struct worker_pool *pool)
{
    return worker_pool_queue_depth(pool) >= pool->options.queue_max;
}

int worker_pool_queue_depth(struct worker_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    int depth = pool->depth;
    pthread_mutex_unlock(&pool->mutex);
    return depth;
}

int worker_pool_busy(struct worker_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    int busy = pool->busy;
    pthread_mutex_unlock(&pool->mutex);
    return busy;
}
