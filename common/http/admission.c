#include "http/admission.h"

static bool may_work(struct admission *a, int others, struct error *err)
{
    const struct server_options *o = a->options;

    if (atomic_load(&a->draining))
        return error_set(err, ERROR_SHUTTING_DOWN, "shutting down");
    if (connections_over_limit(a->connections))
        return error_set(err, ERROR_OVERLOADED, "more than %lld connections",
                         (long long)o->max_connections);
    if (others >= o->max_inflight && !connections_end_slow_body(a->connections))
        return error_set(err, ERROR_OVERLOADED, "%lld requests in flight",
                         (long long)o->max_inflight);
    return o->admit == NULL || o->admit(o->app, err);
}

bool admission_begin(struct admission *a, struct counted *counted, bool light, struct error *err)
{
    counted->inflight = true;
    atomic_fetch_add(&a->inflight, 1);
    if (light)
        return true;
    counted->working = true;
    return may_work(a, atomic_fetch_add(&a->working, 1), err);
}

bool admission_begin_watch(struct admission *a, struct counted *counted, struct error *err)
{
    counted->watches = true;
    return atomic_fetch_add(&a->watches, 1) < ADMISSION_WATCHES_MAX ||
           error_set(err, ERROR_OVERLOADED, "%d streams of this kind", ADMISSION_WATCHES_MAX);
}

void admission_end(struct admission *a, struct counted *counted)
{
    if (counted->inflight)
        atomic_fetch_sub(&a->inflight, 1);
    if (counted->working)
        atomic_fetch_sub(&a->working, 1);
    if (counted->watches)
        atomic_fetch_sub(&a->watches, 1);
    *counted = (struct counted){0};
}
