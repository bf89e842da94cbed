#include "http/handler_threads.h"

#include "base/clock.h"
#include "base/threads.h"
#include "base/xmalloc.h"

enum { IDLE_MS = 10000 };

struct handler_threads {
    int64_t most;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct handler_job *first, **end;
    int64_t count, waiting;
    int64_t jobs; /* not yet taken by a thread */
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

/* NULL: this thread is not needed any more. Called locked. */
static struct handler_job *next_job(struct handler_threads *t)
{
    int64_t until = clock_monotonic_ms() + IDLE_MS;

    t->waiting++;
    while (t->first == NULL && !t->stop && thread_cond_wait(&t->changed, &t->mutex, until))
        ;
    t->waiting--;
    struct handler_job *job = t->first;
    if (job == NULL)
        return NULL;
    t->first = job->next;
    if (t->first == NULL)
        t->end = &t->first;
    t->jobs--;
    return job;
}

static void *handler_main(void *arg)
{
    struct handler_threads *t = arg;
    struct handler_job *job;

    pthread_mutex_lock(&t->mutex);
    while ((job = next_job(t)) != NULL) {
        pthread_mutex_unlock(&t->mutex);
        job->run(job);
        pthread_mutex_lock(&t->mutex);
    }
    t->count--;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

/* Called locked. */
static bool add_thread(struct handler_threads *t, struct error *err)
{
    pthread_t thread;

    if (!thread_start(&thread, handler_main, t, err))
        return false;
    pthread_detach(thread);
    t->count++;
    return true;
}

bool handler_threads_run(struct handler_threads *t, struct handler_job *job, struct error *err)
{
    pthread_mutex_lock(&t->mutex);
    bool enough = t->waiting > t->jobs || t->count >= t->most;
    bool ok = enough || add_thread(t, err) || t->count > 0;
    if (ok) {
        job->next = NULL;
        *t->end = job;
        t->end = &job->next;
        t->jobs++;
        pthread_cond_signal(&t->changed);
    }
    pthread_mutex_unlock(&t->mutex);
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
