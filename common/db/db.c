#include "db/db.h"

#include "base/clock.h"
#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "db/driver.h"

#include <string.h>

enum { CONNECT_MS = 10000, ATTEMPTS_MAX = 6, AGAIN_MS = 10, TIDY_FRAMES = 1000 };

static const char sqlite_scheme[] = "sqlite:";

/* ---- open and close ---- */

bool db_url_is_sqlite(const char *url)
{
    return string_starts_with(url, sqlite_scheme);
}

bool db_url_check(const char *url, struct error *err)
{
    if (string_starts_with(url, "postgresql://") || string_starts_with(url, "postgres://"))
        return true;
    if (!db_url_is_sqlite(url) || url[strlen(sqlite_scheme)] == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "must be sqlite:PATH or postgresql://...");
    return true;
}

static void forget_statements(struct db_session *s)
{
    for (size_t i = 0; i < s->statement_count; i++)
        free(s->statements[i].sql);
    s->statement_count = 0;
}

static void session_free(struct db_session *s)
{
    if (s == NULL)
        return;
    if (s->handle != NULL)
        s->db->driver->disconnect(s);
    forget_statements(s);
    free(s);
}

static struct db_session *session_new(struct db *db)
{
    struct db_session *s = xcalloc(1, sizeof(*s));

    s->db = db;
    return s;
}

/* Connected; what was prepared on a lost connection is forgotten. */
static bool session_connect(struct db_session *s, bool writer, struct error *err)
{
    if (s->handle != NULL && s->lost)
        s->db->driver->disconnect(s);
    if (s->handle != NULL)
        return true;
    forget_statements(s);
    s->lost = false;
    return s->db->driver->connect(s, writer, err);
}

static bool can_take(const struct db *db)
{
    return !db->replacing && (!SLIST_EMPTY(&db->idle) || db->sessions < db->sessions_max);
}

static struct db_session *take(struct db *db, int64_t deadline_ms, struct error *err)
{
    struct db_session *s = NULL;

    pthread_mutex_lock(&db->lock);
    while (!can_take(db) && clock_left_ms(deadline_ms) > 0)
        thread_cond_wait(&db->changed, &db->lock, deadline_ms);
    if (can_take(db)) {
        s = SLIST_FIRST(&db->idle);
        if (s != NULL) {
            SLIST_REMOVE_HEAD(&db->idle, link);
        } else {
            db->sessions++;
            s = session_new(db);
        }
        db->taken++;
    }
    pthread_mutex_unlock(&db->lock);
    if (s == NULL)
        error_set(err, ERROR_DEADLINE, "database: all connections are in use");
    else
        s->deadline_ms = deadline_ms;
    return s;
}

static void give(struct db *db, struct db_session *s)
{
    pthread_mutex_lock(&db->lock);
    SLIST_INSERT_HEAD(&db->idle, s, link);
    db->taken--;
    pthread_cond_broadcast(&db->changed);
    pthread_mutex_unlock(&db->lock);
}

/* A first session says whether the database can be had at all. */
static bool open_first(struct db *db, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + db->connect_ms;

    if (db->driver == &db_sqlite) {
        db->writer = session_new(db);
        return session_connect(db->writer, true, err);
    }
    struct db_session *s = take(db, deadline_ms, err);
    bool ok = s != NULL && session_connect(s, true, err);
    if (s != NULL)
        give(db, s);
    return ok;
}

struct db *db_open(const struct db_options *options, struct error *err)
{
    struct db *db = xcalloc(1, sizeof(*db));
    bool is_file = db_url_is_sqlite(options->url);

    db->driver = is_file ? &db_sqlite : &db_postgresql;
    db->target = xstrdup(options->url + (is_file ? strlen(sqlite_scheme) : 0));
    db->durable = options->durable;
    db->sessions_max = options->sessions > 0 ? options->sessions : 1;
    db->connect_ms = options->connect_ms > 0 ? options->connect_ms : CONNECT_MS;
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->changed, NULL);
    SLIST_INIT(&db->idle);
    TAILQ_INIT(&db->jobs);
    struct error why = {0};
    if (open_first(db, &why) || (options->derived && db->damaged && db_set_aside(db, &why)))
        return db;
    *err = why;
    if (db->damaged && err->code == ERROR_UNAVAILABLE)
        error_wrap(err, "damaged");
    db_close(db);
    return NULL;
}

static void free_idle(struct db *db)
{
    struct db_session *s;

    while ((s = SLIST_FIRST(&db->idle)) != NULL) {
        SLIST_REMOVE_HEAD(&db->idle, link);
        session_free(s);
        db->sessions--;
    }
}

void db_close(struct db *db)
{
    if (db == NULL)
        return;
    free_idle(db);
    session_free(db->writer); /* the last: SQLite then copies the -wal and removes it */
    pthread_cond_destroy(&db->changed);
    pthread_mutex_destroy(&db->lock);
    free(db->target);
    free(db);
}

struct db *db_of(const struct db_session *session)
{
    return session->db;
}

bool db_is_sqlite(const struct db *db)
{
    return db->driver == &db_sqlite;
}

bool db_is_damaged(const struct db *db)
{
    return db->damaged;
}

/* Called locked, while no session is in use: SQLite would take a new -wal for the old file's. */
static bool replace(struct db *db, struct error *err)
{
    free_idle(db);
    if (db->writer->handle != NULL)
        db->driver->disconnect(db->writer);
    if (!db_sqlite_set_aside(db, err))
        return false;
    db->damaged = false;
    db->replaced++;
    return session_connect(db->writer, true, err);
}

bool db_set_aside(struct db *db, struct error *err)
{
    bool ok = true;

    pthread_mutex_lock(&db->lock);
    while (db->writing)
        pthread_cond_wait(&db->changed, &db->lock);
    if (db->damaged) {
        db->writing = db->replacing = true;
        while (db->taken > 0)
            pthread_cond_wait(&db->changed, &db->lock);
        ok = replace(db, err);
        db->writing = db->replacing = false;
        pthread_cond_broadcast(&db->changed);
    }
    pthread_mutex_unlock(&db->lock);
    return ok;
}

int db_replaced(const struct db *db)
{
    return db->replaced;
}

/* ---- statements ---- */

static void *find_statement(struct db_session *s, const char *sql, struct error *err)
{
    void *prepared = NULL;

    for (size_t i = 0; i < s->statement_count; i++)
        if (strcmp(s->statements[i].sql, sql) == 0)
            return s->statements[i].prepared;
    if (s->statement_count == DB_STATEMENTS_MAX) {
        error_set(err, ERROR_INTERNAL, "too many statements in a session");
        return NULL;
    }
    if (!s->db->driver->prepare(s, sql, &prepared, err))
        return NULL;
    s->statements[s->statement_count++] =
        (struct db_statement){.sql = xstrdup(sql), .prepared = prepared};
    return prepared;
}

bool db_query(struct db_session *session, const char *sql, const struct db_value *args,
              size_t count, struct db_rows *ret, struct error *err)
{
    *ret = (struct db_rows){.session = session, .statement = find_statement(session, sql, err)};
    if (ret->statement == NULL)
        return false;
    if (session->db->driver->start(ret, args, count, err))
        return true;
    db_rows_done(ret);
    return false;
}

enum db_step db_step(struct db_rows *rows, struct error *err)
{
    return rows->session->db->driver->step(rows, err);
}

const char *db_column_text(const struct db_rows *rows, int column)
{
    return rows->session->db->driver->text(rows, column);
}

int64_t db_column_int(const struct db_rows *rows, int column)
{
    const char *text = db_column_text(rows, column);

    return text == NULL ? 0 : strtoll(text, NULL, 10);
}

double db_column_real(const struct db_rows *rows, int column)
{
    const char *text = db_column_text(rows, column);

    return text == NULL ? 0 : strtod(text, NULL);
}

void db_rows_done(struct db_rows *rows)
{
    if (rows->statement != NULL)
        rows->session->db->driver->done(rows);
    *rows = (struct db_rows){0};
}

bool db_run(struct db_session *session, const char *sql, const struct db_value *args, size_t count,
            int64_t *changed, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows;

    if (!db_query(session, sql, args, count, &rows, err))
        return false;
    enum db_step last = db_step(&rows, err);
    if (changed != NULL)
        *changed = last == DB_FAILED ? 0 : session->db->driver->changed(&rows);
    return last != DB_FAILED;
}

/* ---- transactions ---- */

struct db_job {
    db_work work;
    void *ctx;
    bool started, done, ok;
    struct error err;
    TAILQ_ENTRY(db_job) link;
};

static bool step_only(struct db_session *s, const char *sql, struct error *err)
{
    return db_run(s, sql, DB_NO_ARGS, NULL, err);
}

static void roll_back(struct db_session *s)
{
    struct error ignored = {0};

    if (!s->lost && s->handle != NULL && s->db->driver->in_transaction(s) &&
        !step_only(s, "ROLLBACK", &ignored))
        s->lost = true; /* connect again: a transaction must not stay open */
}

static bool try_once(struct db_session *s, const char *begin, db_work work, void *ctx,
                     struct error *err)
{
    s->again = false;
    if (!session_connect(s, false, err) || !step_only(s, begin, err))
        return false;
    if (work(ctx, s, err) && step_only(s, "COMMIT", err))
        return true;
    roll_back(s);
    return false;
}

/* On a session of the pool. A connection that was lost meanwhile, the server's restart say, is
 * known only when it is used. */
static bool run_pooled(struct db *db, const char *begin, db_work work, void *ctx,
                       int64_t deadline_ms, struct error *err)
{
    struct db_session *s = take(db, deadline_ms, err);
    bool ok = false;

    if (s == NULL)
        return false;
    for (int attempt = 0; attempt < ATTEMPTS_MAX && !ok; attempt++) {
        struct error why = {0};
        bool old = s->handle != NULL;
        ok = try_once(s, begin, work, ctx, &why);
        if (ok)
            break;
        *err = why;
        if (!(s->again || (s->lost && old)) || clock_left_ms(deadline_ms) == 0)
            break;
        if (s->again) /* at once, it may take the lock from the one that waited for it */
            clock_pause(clock_jitter_ms(AGAIN_MS << attempt));
    }
    give(db, s);
    return ok;
}

bool db_read(struct db *db, db_work work, void *ctx, int64_t deadline_ms, struct error *err)
{
    return run_pooled(db, db->driver->begin_read, work, ctx, deadline_ms, err);
}

/* One of several in a transaction: its failure undoes only its own part. */
static void run_job(struct db_session *s, struct db_job *job, bool alone)
{
    struct error failure = {0};

    job->err = (struct error){0};
    job->ok = alone || step_only(s, "SAVEPOINT job", &job->err);
    job->ok = job->ok && job->work(job->ctx, s, &job->err);
    if (alone || !s->db->driver->in_transaction(s))
        return;
    if (!job->ok && !step_only(s, "ROLLBACK TO job", &failure))
        s->lost = true;
    if (!step_only(s, "RELEASE job", &failure))
        s->lost = true;
}

/* All of them in one commit. */
static void run_jobs(struct db_session *s, struct db_jobs *jobs)
{
    struct db_job *job;
    const struct error failed = {ERROR_UNAVAILABLE, "database: a batch failed"};
    struct error err = {0};
    bool alone = TAILQ_NEXT(TAILQ_FIRST(jobs), link) == NULL;
    bool ok = session_connect(s, true, &err) && step_only(s, s->db->driver->begin_write, &err);

    for (job = TAILQ_FIRST(jobs); ok && job != NULL; job = TAILQ_NEXT(job, link)) {
        run_job(s, job, alone);
        if (s->lost || (!job->ok && (alone || !s->db->driver->in_transaction(s)))) {
            err = job->err.code != ERROR_NONE ? job->err : failed;
            ok = false;
        }
    }
    if (!ok || !step_only(s, "COMMIT", &err)) {
        roll_back(s);
        ok = false;
    }
    if (ok) {
        atomic_fetch_add(&s->db->commits, 1);
        return;
    }
    TAILQ_FOREACH(job, jobs, link)
    {
        if (job->ok || job->err.code == ERROR_NONE)
            job->err = err;
        job->ok = false;
    }
}

/* Called locked: as the writer, for all who wait. */
static void lead(struct db *db)
{
    struct db_jobs jobs = TAILQ_HEAD_INITIALIZER(jobs);
    struct db_job *job;

    TAILQ_CONCAT(&jobs, &db->jobs, link);
    TAILQ_FOREACH(job, &jobs, link)
    {
        job->started = true;
    }
    db->writing = true;
    pthread_mutex_unlock(&db->lock);
    run_jobs(db->writer, &jobs);
    pthread_mutex_lock(&db->lock);
    db->writing = false;
    while ((job = TAILQ_FIRST(&jobs)) != NULL) {
        TAILQ_REMOVE(&jobs, job, link);
        job->done = true; /* its thread may go on, and the job with it, once this is unlocked */
    }
    pthread_cond_broadcast(&db->changed);
}

bool db_write(struct db *db, db_work work, void *ctx, int64_t deadline_ms, struct error *err)
{
    struct db_job job = {.work = work, .ctx = ctx};

    if (db->driver != &db_sqlite)
        return run_pooled(db, db->driver->begin_write, work, ctx, deadline_ms, err);
    pthread_mutex_lock(&db->lock);
    TAILQ_INSERT_TAIL(&db->jobs, &job, link);
    while (!job.done) {
        if (!db->writing)
            lead(db);
        else if (job.started)
            pthread_cond_wait(&db->changed, &db->lock);
        else if (!thread_cond_wait(&db->changed, &db->lock, deadline_ms) && !job.started)
            break;
    }
    if (!job.done)
        TAILQ_REMOVE(&db->jobs, &job, link);
    pthread_mutex_unlock(&db->lock);
    if (!job.done)
        return error_set(err, ERROR_DEADLINE, "database: no time left to write");
    if (!job.ok)
        *err = job.err;
    return job.ok;
}

bool db_sync(struct db *db, struct error *err)
{
    return db->driver != &db_sqlite || db_sqlite_sync(db, err);
}

int64_t db_commits(const struct db *db)
{
    return atomic_load(&db->commits);
}

void db_tidy(struct db *db)
{
    struct error ignored = {0};

    if (db->driver != &db_sqlite)
        return;
    pthread_mutex_lock(&db->lock);
    int frames = db->writing ? 0 : db->writer->wal_frames;
    pthread_mutex_unlock(&db->lock);
    struct db_session *s =
        frames > TIDY_FRAMES ? take(db, clock_monotonic_ms() + CONNECT_MS, &ignored) : NULL;
    if (s == NULL)
        return;
    if (session_connect(s, false, &ignored))
        db_sqlite_tidy(s);
    give(db, s);
}
