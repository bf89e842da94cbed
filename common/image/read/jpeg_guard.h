/* libjpeg reports errors by longjmp. The only setjmp is in jpeg_guard_run, whose frame has nothing
 * to lose; the step that it calls must own nothing when it calls libjpeg: what it needs freed hangs
 * on `arg`, and the caller frees it. */
#pragma once

#include "base/error.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>

#include <jpeglib.h>

struct jpeg_guard {
    struct jpeg_error_mgr manager;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    const atomic_bool *cancelled; /* may be NULL; polled whenever libjpeg tells its progress */
    bool in_scan;                 /* the last marker began a scan, or is a restart in it */
    size_t restarts;              /* since then, or since bytes were left over */
    int leftovers;                /* times that bytes of a scan were left over before a marker */
    bool garbage;                 /* and once they were no padding: see jpeg_guard_init */
    enum { JPEG_FINE, JPEG_CANCELLED, JPEG_NO_MEMORY, JPEG_BROKEN } state;
};

/* To be called before jpeg_create_...; the guard must live as long as *codec. A warning counts as
 * an error when it means that pixels are made up (libjpeg found no more data, a code that does not
 * exist, or another restart marker than it should be). Odd values in header fields mean nothing.
 * Bytes of a scan left over before a marker are counted; they are padding or strays when they are
 * all the same or few (JPEG_STRAYS_MAX), else garbage. Bytes between segments mean nothing. */
enum { JPEG_STRAYS_MAX = 16 };
void jpeg_guard_init(struct jpeg_guard *guard, j_common_ptr codec, const atomic_bool *cancelled);

/* Run step(arg); false when libjpeg gave up, with guard->state saying why. */
bool jpeg_guard_run(struct jpeg_guard *guard, void (*step)(void *arg), void *arg) NODISCARD;

/* Leave the step: never returns. Inside a guarded step only. */
_Noreturn void jpeg_guard_leave(struct jpeg_guard *guard, int state);

/* Puts the reason into *err: ERROR_DEADLINE, ERROR_OVERLOADED, or `code` and `what`. False. */
bool jpeg_guard_failed(const struct jpeg_guard *guard, struct error *err, enum error_code code,
                       const char *what);
