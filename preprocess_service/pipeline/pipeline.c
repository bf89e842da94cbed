#include "pipeline.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "objects/result_key.h"

#include <string.h>
#include <sys/queue.h>

enum {
    /* As many as there are stages, as in the older system: while one picture is worked on here, the
       others are at other services, or write. */
    RUNNERS = PIPELINE_STAGES,
    ATTEMPTS = 3, /* of a stage; the pauses are 1 s and 2 s */
    PAUSE_MS = 1000,
    SAVE_PAUSE_MAX_MS = 10000,
    ELSEWHERE_MS = 30000, /* of one attempt; these two are the older system's */
    HERE_MS = 120000,
    LATE_MS = 60000, /* that its record may need beyond it */
    SAVE_MS = 30000,
};

struct job {
    struct task task;
    struct stage_work work;
    int64_t charged;             /* for the picture as it came */
    const struct context *asker; /* who waits; NULL: nobody */
    int64_t deadline_ms;         /* monotonic */
    TAILQ_ENTRY(job) link;
};

struct pipeline {
    struct app *app;
    char owner[TASK_OWNER_MAX], boot[UUID_LEN + 1];
    struct timeline timeline;
    pthread_mutex_t mutex;
    pthread_cond_t wake; /* a job waits, a place is free, or stopping */
    TAILQ_HEAD(job_list, job) waiting;
    int tasks;          /* waiting or running */
    int here, here_max; /* stages that run on the worker pool */
    bool stopping;
    pthread_t runners[RUNNERS];
    int started;
};

/* Where this process is: the next one there knows by it that this one has ended. On Cloud Run many
 * are at one such place. */
static void set_owner(struct pipeline *p)
{
    const struct settings *s = &p->app->service.settings;
    char host[256] = "";

    if (getenv("K_SERVICE") != NULL)
        return; /* start has a name for it */
    gethostname(host, sizeof(host) - 1);
    snprintf(p->owner, sizeof(p->owner), "%s %.64s:%lld", host, s->host, (long long)s->port);
}

/* --- a stage --- */

/* False when it is time to stop. */
static bool pause_ms(struct pipeline *p, int64_t ms)
{
    return thread_pause(&p->wake, &p->mutex, &p->stopping, ms);
}

static bool is_gone(const struct job *job)
{
    return job->asker != NULL && job->asker->gone != NULL && atomic_load(job->asker->gone);
}

/* At most all workers but one have work of the pipeline's: the last is for other requests. */
static bool wait_for_worker(struct pipeline *p, const struct job *job, struct error *err)
{
    pthread_mutex_lock(&p->mutex);
    while (p->here == p->here_max && !p->stopping &&
           thread_cond_wait(&p->wake, &p->mutex, job->deadline_ms))
        ;
    const bool ok = p->here < p->here_max;
    p->here += ok;
    pthread_mutex_unlock(&p->mutex);
    return ok || error_set(err, ERROR_DEADLINE, "no worker was free in time");
}

static void give_worker(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->here--;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

/* What the sender reads. Of a stage elsewhere it is what curl or that service said; of one here, as
 * of any request, nothing of the inside. */
static void set_reason(struct pipeline *p, struct job *job, const char *where, int attempts,
                       const struct error *why)
{
    struct error text;

    if (error_is_passing(why->code) && !pause_ms(p, 0))
        error_set(&text, why->code,
                  "The service was stopped while it worked on this picture. Send it again.");
    else if (where == NULL)
        error_set(&text, why->code, "%s", error_public_detail(why));
    else
        error_set(&text, why->code, "Request to %.*s failed after %d attempt%s: %s",
                  (int)strcspn(where, "?#"), where, attempts, attempts == 1 ? "" : "s",
                  why->message);
    utf8_copy(job->task.error, sizeof(job->task.error), text.message);
}

/* What a stage makes must fit into the next one's request, and into the reply to its sender beside
 * its base64. */
static bool check_size(const struct pipeline *p, const struct stage_work *work, struct error *err)
{
    const int64_t budget = p->app->service.budget.max / 3;
    const int64_t body = p->app->service.settings.max_body_bytes;
    const int64_t max = budget < body ? budget : body;

    return (int64_t)work->picture.len <= max ||
           error_set(err, ERROR_TOO_LARGE,
                     "a picture of %zu bytes came out, more than %lld: send a smaller one",
                     work->picture.len, (long long)max);
}

/* One attempt, and in the job's span when it ran. */
static bool try_stage(struct pipeline *p, struct job *job, enum pipeline_stage stage,
                      const struct stage_place *place, struct error *err)
{
    static const struct context nobody = {.traceparent = "", .who = ""};
    struct context ctx = job->asker != NULL ? *job->asker : nobody;
    struct task_span *span = &job->task.spans[stage];
    const bool here = place->where == NULL;
    const bool work_here = here && stage != PIPELINE_UPLOAD;

    ctx.id = job->task.id;
    ctx.budget = &p->app->service.budget;
    if (work_here && !wait_for_worker(p, job, err))
        return false;
    const int64_t end_ms = clock_monotonic_ms() + (here ? HERE_MS : ELSEWHERE_MS);
    ctx.deadline_ms = end_ms < job->deadline_ms ? end_ms : job->deadline_ms;
    if (span->begin_s == 0)
        span->begin_s = (double)clock_wall_ms() / 1e3;
    bool ok = here ? stage_run_here(p->app, &ctx, stage, &job->work, err)
                   : stage_run_at(p->app, &ctx, stage, place, &job->work, err);
    span->end_s = (double)clock_wall_ms() / 1e3;
    if (work_here)
        give_worker(p);
    return ok && check_size(p, &job->work, err);
}

static bool run_stage(struct pipeline *p, struct job *job, enum pipeline_stage stage)
{
    const struct stage_place place = stage_place(&p->app->service.settings, stage);
    struct error why = {0};

    for (int attempt = 1; !try_stage(p, job, stage, &place, &why); attempt++) {
        if (attempt == ATTEMPTS || !error_is_passing(why.code) || is_gone(job) ||
            clock_left_ms(job->deadline_ms) == 0 || !pause_ms(p, attempt * PAUSE_MS)) {
            log_warning("a stage of the pipeline failed", F("task", (const char *)job->task.id),
                        F("stage", stage_name(stage)), F("error", (const char *)why.message));
            set_reason(p, job, place.where, attempt, &why);
            return false;
        }
    }
    return true;
}

/* --- a task --- */

/* The end is written until it can be: the sender asks for it. */
static void save(struct pipeline *p, struct job *job, bool with_picture)
{
    struct store *store = p->app->service.store;
    const int64_t until_ms = job->deadline_ms + LATE_MS;
    struct error why = {0};

    for (int64_t wait_ms = PAUSE_MS;; wait_ms *= 2) {
        const int64_t deadline_ms = clock_monotonic_ms() + SAVE_MS;
        if ((!with_picture || task_save_picture(store, &job->task, buffer_view(&job->work.picture),
                                                deadline_ms, &why)) &&
            task_save(store, &job->task, deadline_ms, &why))
            return;
        if (clock_left_ms(until_ms) == 0 ||
            !pause_ms(p, wait_ms < SAVE_PAUSE_MAX_MS ? wait_ms : SAVE_PAUSE_MAX_MS))
            break;
    }
    log_error("a task's result cannot be stored; /status will report a failure",
              F("task", (const char *)job->task.id), F("error", (const char *)why.message));
}

static bool run_stages(struct pipeline *p, struct job *job, bool stopping)
{
    bool ok = !stopping;

    if (stopping)
        utf8_copy(job->task.error, sizeof(job->task.error),
                  "The service was stopped before this picture's turn came. Send it again.");
    for (size_t stage = 0; ok && stage < PIPELINE_STAGES; stage++)
        ok = run_stage(p, job, (enum pipeline_stage)stage);
    if (ok) {
        job->task.state = TASK_DONE;
        job->task.bytes = job->work.picture.len;
        utf8_copy(job->task.label, sizeof(job->task.label), job->work.label);
        timeline_add(&p->timeline, &job->task);
    } else {
        job->task.state = TASK_FAILED;
    }
    return ok;
}

static void job_free(struct pipeline *p, struct job *job)
{
    stage_work_done(&job->work);
    byte_budget_give(&p->app->service.budget, job->charged);
    free(job);
}

static void *runner_main(void *arg)
{
    struct pipeline *p = arg;
    struct job *job;

    pthread_mutex_lock(&p->mutex);
    while (!p->stopping || !TAILQ_EMPTY(&p->waiting)) {
        if ((job = TAILQ_FIRST(&p->waiting)) == NULL) {
            pthread_cond_wait(&p->wake, &p->mutex);
            continue;
        }
        TAILQ_REMOVE(&p->waiting, job, link);
        bool stopping = p->stopping;
        pthread_mutex_unlock(&p->mutex);
        save(p, job, run_stages(p, job, stopping));
        job_free(p, job);
        pthread_mutex_lock(&p->mutex);
        p->tasks--;
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* With the first task, since randomness and threads would cost every start of the service 2 ms.
 * With the mutex held. */
static bool start(struct pipeline *p, struct error *err)
{
    if (*p->boot == '\0' && !string_uuid(p->boot))
        return error_set(err, ERROR_INTERNAL, "no randomness");
    if (*p->owner == '\0')
        utf8_copy(p->owner, sizeof(p->owner), p->boot);
    for (; p->started < RUNNERS; p->started++)
        if (!thread_start(&p->runners[p->started], runner_main, p, err))
            return false;
    return true;
}

struct pipeline *pipeline_new(struct app *app)
{
    struct pipeline *p = xcalloc(1, sizeof(*p));
    const int workers = (int)app->service.settings.workers;

    p->app = app;
    p->here_max = workers > 1 ? workers - 1 : 1;
    pthread_mutex_init(&p->timeline.mutex, NULL);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    TAILQ_INIT(&p->waiting);
    set_owner(p);
    return p;
}

void pipeline_stop(struct pipeline *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->mutex);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    for (; p->started > 0; p->started--)
        pthread_join(p->runners[p->started - 1], NULL);
}

void pipeline_free(struct pipeline *p)
{
    if (p == NULL)
        return;
    pipeline_stop(p);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    pthread_mutex_destroy(&p->timeline.mutex);
    free(p);
}

int pipeline_tasks(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    int tasks = p->tasks;
    pthread_mutex_unlock(&p->mutex);
    return tasks;
}

/* --- its users --- */

static bool take_place(struct pipeline *p, struct error *err)
{
    bool ok = false;

    pthread_mutex_lock(&p->mutex);
    if (p->stopping)
        error_set(err, ERROR_SHUTTING_DOWN, "the pipeline takes no more pictures");
    else if (p->tasks >= p->app->service.settings.queue_max)
        error_set(err, ERROR_OVERLOADED, "the pipeline has no place for a picture");
    else
        ok = start(p, err);
    p->tasks += ok;
    pthread_mutex_unlock(&p->mutex);
    return ok;
}

static void give_place(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->tasks--;
    pthread_mutex_unlock(&p->mutex);
}

bool pipeline_accept(struct pipeline *p, const struct context *ctx,
                     const struct pipeline_upload *upload, char id[UUID_LEN + 1], struct error *err)
{
    if (!take_place(p, err))
        return false;
    struct job *job = xcalloc(1, sizeof(*job));
    struct task *task = &job->task;
    task->state = TASK_PENDING;
    task->until_ms = clock_wall_ms() + PIPELINE_TASK_MAX_MS + LATE_MS;
    task->accepted_s = (double)clock_wall_ms() / 1e3;
    utf8_copy(task->file_name, sizeof(task->file_name), upload->file_name);
    utf8_copy(task->owner, sizeof(task->owner), p->owner);
    utf8_copy(task->boot, sizeof(task->boot), p->boot);
    job->deadline_ms = clock_monotonic_ms() + PIPELINE_TASK_MAX_MS;
    if (!(string_uuid(task->id) || error_set(err, ERROR_INTERNAL, "no randomness")) ||
        !task_save(p->app->service.store, task, ctx->deadline_ms, err)) {
        free(job);
        give_place(p);
        return false;
    }
    job->work.file_name = task->file_name;
    job->work.picture = *upload->picture;
    job->charged = *upload->charged;
    *upload->picture = (struct buffer){0};
    *upload->charged = 0;
    memcpy(id, task->id, sizeof(task->id));
    pthread_mutex_lock(&p->mutex);
    TAILQ_INSERT_TAIL(&p->waiting, job, link);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    return true;
}

bool pipeline_run(struct pipeline *p, const struct context *ctx,
                  const struct pipeline_upload *upload, struct task *ret, struct buffer *picture,
                  struct error *err)
{
    struct job job = {.deadline_ms = ctx->deadline_ms, .asker = ctx};

    if (!string_uuid(job.task.id))
        return error_set(err, ERROR_INTERNAL, "no randomness");
    if (!take_place(p, err))
        return false;
    job.task.accepted_s = (double)clock_wall_ms() / 1e3;
    utf8_copy(job.task.file_name, sizeof(job.task.file_name), upload->file_name);
    job.work.file_name = job.task.file_name;
    job.work.picture = *upload->picture;
    *upload->picture = (struct buffer){0};
    if (run_stages(p, &job, false))
        *picture = job.work.picture;
    else
        stage_work_done(&job.work);
    *ret = job.task;
    give_place(p);
    return true;
}

static void fail(struct task *task, const char *why)
{
    task->state = TASK_FAILED;
    utf8_copy(task->error, sizeof(task->error), why);
}

/* Of a process that was here before this one. */
static bool is_of_another_life(struct pipeline *p, const struct task *task)
{
    pthread_mutex_lock(&p->mutex);
    bool yes = strcmp(task->owner, p->owner) == 0 && strcmp(task->boot, p->boot) != 0;
    pthread_mutex_unlock(&p->mutex);
    return yes;
}

bool pipeline_look(struct pipeline *p, const struct context *ctx, const char *id, struct task *ret,
                   struct error *err)
{
    if (!task_id_is_valid(id))
        return error_set(err, ERROR_NOT_FOUND, "Task not found");
    if (!task_load(p->app->service.store, id, ctx->deadline_ms, ret, err))
        return err->code == ERROR_NOT_FOUND ? error_set(err, ERROR_NOT_FOUND, "Task not found")
                                            : false;
    if (ret->state == TASK_PENDING && is_of_another_life(p, ret))
        fail(ret, "The service was restarted while it worked on this picture. Send it again.");
    else if (ret->state == TASK_PENDING && clock_wall_ms() > ret->until_ms)
        fail(ret, "The service did not finish this picture in time. Send it again.");
    return true;
}

struct plot_job {
    struct timeline_view view;
    enum plot_format format;
    struct buffer *out;
};

static bool draw(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    const struct plot_job *job = arg;

    (void)state, (void)cancelled;
    return plot_draw(&job->view, job->format, job->out, err);
}

bool pipeline_plot(struct pipeline *p, const struct context *ctx, const struct task *task,
                   enum plot_format format, struct buffer *out, struct error *err)
{
    struct plot_job job = {.format = format, .out = out};

    timeline_look(&p->timeline, task, &job.view);
    return worker_pool_run(p->app->service.pool,
                           &(struct pool_job){.run = draw, .arg = &job, .stages = ctx->stages},
                           ctx->deadline_ms, err);
}
