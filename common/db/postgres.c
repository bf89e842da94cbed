/* PostgreSQL, by libpq. Nothing blocks past its deadline: statements are sent, and their results
 * waited for with poll. libpq is loaded when the first database of this kind is opened: linked, it
 * would bring Kerberos and LDAP into every start. */
#include "base/clock.h"
#include "base/xmalloc.h"
#include "db/driver.h"

#include <dlfcn.h>
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>

enum { ARGS_MAX = 16, NUMBER_MAX = 32 };

#define PQ_FUNCTIONS(X)                                                                            \
    X(PQclear)                                                                                     \
    X(PQcmdTuples)                                                                                 \
    X(PQconnectPoll)                                                                               \
    X(PQconnectStart)                                                                              \
    X(PQconsumeInput)                                                                              \
    X(PQerrorMessage)                                                                              \
    X(PQfinish)                                                                                    \
    X(PQgetisnull)                                                                                 \
    X(PQgetResult)                                                                                 \
    X(PQgetvalue)                                                                                  \
    X(PQisBusy)                                                                                    \
    X(PQntuples)                                                                                   \
    X(PQresultErrorField)                                                                          \
    X(PQresultStatus)                                                                              \
    X(PQsendPrepare)                                                                               \
    X(PQsendQuery)                                                                                 \
    X(PQsendQueryPrepared)                                                                         \
    X(PQsetNoticeReceiver)                                                                         \
    X(PQsocket)                                                                                    \
    X(PQstatus)

static struct {
#define MEMBER(name) __typeof__(name) *name##_;
    PQ_FUNCTIONS(MEMBER)
#undef MEMBER
} pq;

static pthread_once_t load_once = PTHREAD_ONCE_INIT;
static const char *load_error;

static void load(void)
{
    void *library = dlopen("libpq.so.5", RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        load_error = "libpq.so.5 cannot be loaded (Debian's package: libpq5)";
        return;
    }
#define FIND(name)                                                                                 \
    *(void **)&pq.name##_ = dlsym(library, #name);                                                 \
    if (pq.name##_ == NULL)                                                                        \
        load_error = "libpq.so.5 lacks " #name;
    PQ_FUNCTIONS(FIND)
#undef FIND
}

/* ---- waiting ---- */

static bool wait_for(struct db_session *s, short events, struct error *err)
{
    struct pollfd poll_fd = {.fd = pq.PQsocket_(s->handle), .events = events};
    int64_t left_ms = clock_left_ms(s->deadline_ms);

    if (left_ms > 0 && poll(&poll_fd, 1, left_ms > 1000 ? 1000 : (int)left_ms) >= 0)
        return true;
    s->lost = true; /* in the middle of something: the connection is of no use any more */
    return error_set(err, ERROR_DEADLINE, "database: no time left");
}

static bool fail(struct db_session *s, const PGresult *result, struct error *err)
{
    const char *state = result != NULL ? pq.PQresultErrorField_(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text =
        result != NULL ? pq.PQresultErrorField_(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;

    if (pq.PQstatus_(s->handle) != CONNECTION_OK)
        s->lost = true;
    /* serialization failure, deadlock, a unique key that another has taken; being shut down or
     * started: try again */
    s->again = state != NULL && (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0 ||
                                 strcmp(state, "23505") == 0);
    s->lost |= state != NULL && strncmp(state, "57P", 3) == 0;
    if (text == NULL)
        text = pq.PQerrorMessage_(s->handle);
    return error_set(err, ERROR_UNAVAILABLE, "database: %.*s", (int)strcspn(text, "\n"), text);
}

/* The one result of what was sent, or NULL. */
static PGresult *await(struct db_session *s, struct error *err)
{
    PGresult *result = NULL;
    PGresult *next;

    for (;;) {
        while (pq.PQisBusy_(s->handle)) {
            if (!wait_for(s, POLLIN, err)) {
                pq.PQclear_(result);
                return NULL;
            }
            if (!pq.PQconsumeInput_(s->handle)) {
                pq.PQclear_(result);
                s->lost = true;
                fail(s, NULL, err);
                return NULL;
            }
        }
        if ((next = pq.PQgetResult_(s->handle)) == NULL)
            break;
        /* of a script: the last, or the first that failed */
        if (result != NULL && pq.PQresultStatus_(result) == PGRES_FATAL_ERROR) {
            pq.PQclear_(next);
            continue;
        }
        pq.PQclear_(result);
        result = next;
    }
    if (result == NULL) {
        s->lost = true;
        fail(s, NULL, err);
        return NULL;
    }
    ExecStatusType status = pq.PQresultStatus_(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return result;
    fail(s, result, err);
    pq.PQclear_(result);
    return NULL;
}

/* ---- the driver ---- */

static void ignore_notice(void *ctx, const PGresult *result)
{
    (void)ctx;
    (void)result;
}

static void disconnect(struct db_session *s)
{
    for (size_t i = 0; i < s->statement_count; i++)
        free(s->statements[i].prepared);
    pq.PQfinish_(s->handle);
    s->handle = NULL;
}

static bool connect_server(struct db_session *s, bool writer, struct error *err)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    (void)writer;
    pthread_once(&load_once, load);
    if (load_error != NULL)
        return error_set(err, ERROR_CONFIG, "%s", load_error);
    s->handle = pq.PQconnectStart_(s->db->target);
    if (s->handle == NULL)
        return error_oom(err);
    bool ok = pq.PQstatus_(s->handle) != CONNECTION_BAD;
    while (ok && status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED) {
        ok = wait_for(s, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, err);
        if (ok)
            status = pq.PQconnectPoll_(s->handle);
    }
    if (ok && status == PGRES_POLLING_OK) {
        pq.PQsetNoticeReceiver_(s->handle, ignore_notice, NULL);
        return true;
    }
    if (err->code != ERROR_DEADLINE)
        fail(s, NULL, err); /* libpq's text never has the password */
    disconnect(s);
    return false;
}

static bool script(struct db_session *s, const char *sql, struct error *err)
{
    if (!pq.PQsendQuery_(s->handle, sql))
        return fail(s, NULL, err);
    PGresult *result = await(s, err);
    pq.PQclear_(result);
    return result != NULL;
}

/* ?1 becomes $1. */
static bool prepare(struct db_session *s, const char *sql, void **ret, struct error *err)
{
    CLEANUP_FREE char *translated = xstrdup(sql);
    CLEANUP_FREE char *name = xasprintf("s%zu", s->statement_count);

    for (char *p = translated; *p != '\0'; p++)
        *p = (char)(*p == '?' ? '$' : *p);
    if (!pq.PQsendPrepare_(s->handle, name, translated, 0, NULL))
        return fail(s, NULL, err);
    PGresult *result = await(s, err);
    pq.PQclear_(result);
    if (result == NULL)
        return false;
    *ret = TAKE_PTR(name);
    return true;
}

static bool start(struct db_rows *rows, const struct db_value *args, size_t count,
                  struct error *err)
{
    const char *values[ARGS_MAX] = {0};
    char numbers[ARGS_MAX][NUMBER_MAX];
    struct db_session *s = rows->session;

    if (count > ARGS_MAX)
        return error_set(err, ERROR_INTERNAL, "too many arguments of a statement");
    for (size_t i = 0; i < count; i++) {
        if (args[i].type == DB_VALUE_INT)
            snprintf(numbers[i], NUMBER_MAX, "%lld", (long long)args[i].integer);
        else if (args[i].type == DB_VALUE_REAL)
            snprintf(numbers[i], NUMBER_MAX, "%.17g", args[i].real);
        values[i] = args[i].type == DB_VALUE_NULL   ? NULL
                    : args[i].type == DB_VALUE_TEXT ? args[i].text
                                                    : numbers[i];
    }
    if (!pq.PQsendQueryPrepared_(s->handle, rows->statement, (int)count, values, NULL, NULL, 0))
        return fail(s, NULL, err);
    rows->result = await(s, err);
    rows->row = -1;
    return rows->result != NULL;
}

static enum db_step step(struct db_rows *rows, struct error *err)
{
    (void)err;
    return ++rows->row < pq.PQntuples_(rows->result) ? DB_ROW : DB_DONE;
}

static const char *text(const struct db_rows *rows, int column)
{
    return pq.PQgetisnull_(rows->result, rows->row, column)
               ? NULL
               : pq.PQgetvalue_(rows->result, rows->row, column);
}

static int64_t changed(const struct db_rows *rows)
{
    return strtoll(pq.PQcmdTuples_(rows->result), NULL, 10);
}

static void done(struct db_rows *rows)
{
    pq.PQclear_(rows->result);
}

/* ROLLBACK is no error without one. */
static bool in_transaction(const struct db_session *s)
{
    return s->handle != NULL;
}

const struct db_driver db_postgresql = {
    .serial = "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    .by_key = "",
    .begin_write = "BEGIN",
    .begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    .lock_migrations = "SELECT pg_advisory_xact_lock(4851217301)",
    .connect = connect_server,
    .disconnect = disconnect,
    .script = script,
    .prepare = prepare,
    .start = start,
    .step = step,
    .text = text,
    .changed = changed,
    .done = done,
    .in_transaction = in_transaction,
};
