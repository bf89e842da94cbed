#include "workers/worker_pool.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "base/threads.h"
#include "base/xmalloc.h"

#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum {
    GONE_LOOK_MS = 100,
    NICENESS = 5,
    RESERVED_MS = 1000, /* after a small job was queued, a worker is kept for the next one */
};

enum job_state { WAITING, RUNNING, ENDED };

/* One worker_pool_run call; lives on its caller's stack. */
struct queued_job {
    const struct pool_job *what;
    double queued_s;
    bool ok; /* what it returned */
    struct error *err;
    int64_t deadline_ms;
    enum job_state state;
    atomic_bool cancelled;
    pthread_cond_t changed;
    TAILQ_ENTRY(queued_job) link; /* in a queue, or in the list of running ones */
};

TAILQ_HEAD(job_list, queued_job);

struct worker_pool {
    struct worker_pool_options options;
    pthread_mutex_t mutex;
    pthread_cond_t work;          /* a job was queued, or stopping */
    struct job_list small, large; /* waiting */
    struct job_list running;
    int depth;
    int busy;
    int large_busy;      /* of these, with large jobs */
    int64_t large_bytes; /* that these may need */
    int scarce_busy;     /* with scarce jobs */
    int64_t reserved_ms; /* until then a worker is kept for small jobs */
    double debt_s;       /* workers' time that large jobs owe to the small ones that wait */
    int64_t cut_ms;      /* no deadline is later than this */
    bool stopping;
    pthread_cond_t started;
    int ready; /* threads whose state is made */
    bool failed;
    struct error failure;
    int threads;
    pthread_t *thread;
};

/* Called locked. */
static struct job_list *queue_of(struct worker_pool *pool, const struct queued_job *job)
{
    return job->what->large ? &pool->large : &pool->small;
}

/* Called locked. */
static void queue_remove(struct worker_pool *pool, struct queued_job *job)
{
    TAILQ_REMOVE(queue_of(pool, job), job, link);
    pool->depth--;
}

/* Called locked. */
static bool fits(const struct worker_pool *pool, const struct queued_job *large)
{
    const int64_t max = pool->options.memory_max;

    return max == 0 || pool->large_busy == 0 || large->what->memory <= max - pool->large_bytes;
}

/* The first large job whose turn it is. Called locked. */
static struct queued_job *first_large(const struct worker_pool *pool)
{
    const int max = pool->options.scarce_max;
    struct queued_job *job;

    TAILQ_FOREACH(job, &pool->large, link)
    {
        if (!job->what->scarce || max == 0 || pool->scarce_busy < max)
            return job;
    }
    return NULL;
}

/* What an idle worker runs next, or NULL; then *until_ms is when to ask again at the latest.
 * Called locked. */
static struct queued_job *choose(struct worker_pool *pool, int64_t *until_ms)
{
    struct queued_job *small = TAILQ_FIRST(&pool->small);
    struct queued_job *large = first_large(pool);
    const int workers = pool->options.workers;
    bool last_free = workers > 1 && pool->large_busy >= workers - 1;

    *until_ms = INT64_MAX;
    if (large == NULL || !fits(pool, large))
        return small;
    if (small != NULL)
        return last_free || pool->debt_s > 0 ? small : large;
    pool->debt_s = 0; /* no small job waits */
    if (!last_free || clock_left_ms(pool->reserved_ms) == 0)
        return large;
    *until_ms = pool->reserved_ms;
    return NULL;
}

/* Called locked; unlocks meanwhile. */
static void run_one(struct worker_pool *pool, struct queued_job *job, void *state)
{
    bool large = job->what->large, scarce = job->what->scarce;

    queue_remove(pool, job);
    job->state = RUNNING;
    TAILQ_INSERT_TAIL(&pool->running, job, link);
    pool->busy++;
    pool->large_busy += large;
    pool->large_bytes += large ? job->what->memory : 0;
    pool->scarce_busy += scarce;
    pthread_mutex_unlock(&pool->mutex);

    double started = clock_monotonic_s();
    stage_took(job->what->stages, STAGE_QUEUE, started - job->queued_s);
    job->ok = job->what->run(state, job->what->arg, &job->cancelled, job->err);
    double seconds = clock_monotonic_s() - started;

    pthread_mutex_lock(&pool->mutex);
    TAILQ_REMOVE(&pool->running, job, link);
    pool->busy--;
    pool->large_busy -= large;
    pool->scarce_busy -= scarce;
    if (large) { /* the memory may be enough for more than the one that this worker takes */
        pool->large_bytes -= job->what->memory;
        pthread_cond_broadcast(&pool->work);
    }
    pool->debt_s += large ? seconds : -seconds;
    if (pool->debt_s < 0)
        pool->debt_s = 0;
    job->state = ENDED;
    pthread_cond_signal(&job->changed);
}

/* Run jobs until the pool is stopping and has none left. Called locked. */
static void run_all(struct worker_pool *pool, void *state)
{
    while (!pool->stopping || pool->depth > 0) {
        int64_t until_ms;
        struct queued_job *job = choose(pool, &until_ms);

        if (job != NULL)
            run_one(pool, job, state);
        else if (until_ms < INT64_MAX)
            thread_cond_wait(&pool->work, &pool->mutex, until_ms);
        else
            pthread_cond_wait(&pool->work, &pool->mutex);
    }
}

static void *worker_main(void *arg)
{
    struct worker_pool *pool = arg;
    struct error err = {0};
    void *state = NULL;
    bool ok = true;
    id_t thread = (id_t)syscall(SYS_gettid);

    /* from where the process is: absolute, a service that is niced itself would put its workers
     * first */
    setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + NICENESS);
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
    if (ok && pool->options.begin != NULL) {
        pthread_mutex_unlock(&pool->mutex);
        pool->options.begin(state);
        pthread_mutex_lock(&pool->mutex);
    }
    if (ok)
        run_all(pool, state);
    pthread_mutex_unlock(&pool->mutex);
    if (pool->options.state_free != NULL)
        pool->options.state_free(state);
    return NULL;
}

struct worker_pool *worker_pool_new(const struct worker_pool_options *options, struct error *err)
{
    struct worker_pool *pool = xcalloc(1, sizeof(*pool));

    pool->thread = xcalloc((size_t)options->workers, sizeof(pthread_t));
    pool->options = *options;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->started, NULL);
    TAILQ_INIT(&pool->small);
    TAILQ_INIT(&pool->large);
    TAILQ_INIT(&pool->running);
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

/* Wait until the job has ended, or was withdrawn because its deadline passed in the queue.
 * Called locked. */
static bool wait_for(struct worker_pool *pool, struct queued_job *job)
{
    const atomic_bool *gone = job->what->gone;

    while (job->state != ENDED) {
        int64_t deadline = job->deadline_ms < pool->cut_ms ? job->deadline_ms : pool->cut_ms;
        int64_t look = clock_monotonic_ms() + GONE_LOOK_MS;
        if (clock_left_ms(deadline) > 0 && (gone == NULL || !atomic_load(gone))) {
            thread_cond_wait(&job->changed, &pool->mutex,
                             gone != NULL && look < deadline ? look : deadline);
        } else if (job->state == WAITING) {
            queue_remove(pool, job);
            if (job->what->large) /* the next ones may fit */
                pthread_cond_broadcast(&pool->work);
            return error_set(job->err, ERROR_DEADLINE,
                             "no worker, or memory for it, was free in time");
        } else {
            atomic_store(&job->cancelled, true);
            pthread_cond_wait(&job->changed, &pool->mutex);
        }
    }
    return job->ok;
}

bool worker_pool_run(struct worker_pool *pool, const struct pool_job *job, int64_t deadline_ms,
                     struct error *err)
{
    struct queued_job queued = {
        .what = job,
        .err = err,
        .deadline_ms = deadline_ms,
        .queued_s = clock_monotonic_s(),
    };
    bool ok;

    pthread_cond_init(&queued.changed, NULL);
    pthread_mutex_lock(&pool->mutex);
    if (pool->depth >= pool->options.queue_max + pool->threads - pool->busy) {
        ok = error_set(err, ERROR_OVERLOADED, "%d jobs are waiting already", pool->depth);
    } else {
        TAILQ_INSERT_TAIL(queue_of(pool, &queued), &queued, link);
        pool->depth++;
        if (!job->large)
            pool->reserved_ms = clock_monotonic_ms() + RESERVED_MS;
        pthread_cond_signal(&pool->work);
        ok = wait_for(pool, &queued);
    }
    pthread_mutex_unlock(&pool->mutex);
    pthread_cond_destroy(&queued.changed);
    return ok;
}

static void wake_all(struct job_list *list)
{
    struct queued_job *job;

    TAILQ_FOREACH(job, list, link)
    {
        pthread_cond_signal(&job->changed);
    }
}

void worker_pool_cut_deadlines(struct worker_pool *pool, int64_t deadline_ms)
{
    pthread_mutex_lock(&pool->mutex);
    pool->cut_ms = deadline_ms;
    wake_all(&pool->small);
    wake_all(&pool->large);
    wake_all(&pool->running);
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

int worker_pool_spare(struct worker_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    bool kept = clock_left_ms(pool->reserved_ms) > 0;
    int spare = kept ? 0 : pool->options.workers - pool->busy;
    pthread_mutex_unlock(&pool->mutex);
    return spare;
}
