#include "http/handler_threads.h"

#include "base/clock.h"
#include "base/threads.h"
#include "base/xmalloc.h"

enum { IDLE_MS = 10000 };

/* Waking a thread costs more than many a job. So at most one is on its way to the queue, woken or
 * new; when it has come and leaves jobs behind, it sends for the next one. */
struct handler_threads {
    int64_t most;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct handler_job *first, **end;
    int64_t count, waiting;
    bool coming; /* the thread that is on its way */
    bool stop;
};

struct handler_threads *handler_threads_new(int64_t most)
{
    struct handler_threads *t = xcalloc(1, sizeof(*t));

    t->most = most;
    t->end = &t->first;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->changed, NULL);
    return t;
}

static void *handler_main(void *arg);

/* See to it that a thread comes for the jobs that wait, if there is one or can be. True: wake one,
 * once unlocked. Called locked. */
static bool send_for_thread(struct handler_threads *t, struct error *err)
{
    pthread_t thread;

    if (t->first == NULL || t->coming)
        return false;
    t->coming = t->waiting > 0;
    if (t->coming || t->count >= t->most || !thread_start(&thread, handler_main, t, err))
        return t->coming;
    pthread_detach(thread);
    t->count++;
    t->coming = true;
    return false;
}

static void unlock(struct handler_threads *t, bool wake)
{
    pthread_mutex_unlock(&t->mutex);
    if (wake) /* now, or it would wait for the mutex */
        pthread_cond_signal(&t->changed);
}

/* NULL: this thread is not needed any more. Called locked. */
static struct handler_job *next_job(struct handler_threads *t)
{
    int64_t until = clock_monotonic_ms() + IDLE_MS;
    bool more = true;

    t->waiting++;
    while (t->first == NULL && !t->stop && more) {
        more = thread_cond_wait(&t->changed, &t->mutex, until);
        t->coming = false;
    }
    t->waiting--;
    struct handler_job *job = t->first;
    if (job == NULL)
        return NULL;
    t->first = job->next;
    if (t->first == NULL)
        t->end = &t->first;
    return job;
}

static void *handler_main(void *arg)
{
    struct handler_threads *t = arg;
    struct handler_job *job;
    struct error err; /* none can be made: those that there are take the jobs */

    pthread_mutex_lock(&t->mutex);
    t->coming = false;
    while ((job = next_job(t)) != NULL) {
        unlock(t, send_for_thread(t, &err));
        job->run(job);
        pthread_mutex_lock(&t->mutex);
    }
    t->count--;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

bool handler_threads_run(struct handler_threads *t, struct handler_job *job, struct error *err)
{
    pthread_mutex_lock(&t->mutex);
    job->next = NULL;
    *t->end = job;
    t->end = &job->next;
    bool wake = send_for_thread(t, err);
    bool ok = t->count > 0;
    if (!ok) { /* it is alone in the queue */
        t->first = NULL;
        t->end = &t->first;
    }
    unlock(t, wake);
    return ok;
}

void handler_threads_free(struct handler_threads *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    while (t->count > 0)
        pthread_cond_wait(&t->changed, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}
