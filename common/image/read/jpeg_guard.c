#include "image/read/jpeg_guard.h"

#include <jerror.h>
#include <stdint.h>
#include <string.h>

/* `manager` is the first member */
static struct jpeg_guard *guard_of(j_common_ptr codec)
{
    return (struct jpeg_guard *)codec->err;
}

static void error_exit(j_common_ptr codec)
{
    jpeg_guard_leave(guard_of(codec),
                     codec->err->msg_code == JERR_OUT_OF_MEMORY ? JPEG_NO_MEMORY : JPEG_BROKEN);
}

/* `count` bytes before what libjpeg reads next, which is a marker. Behind restarts some of them may
 * have stood before the markers since: libjpeg adds them up. */
static void note_leftover(struct jpeg_guard *guard, const uint8_t *end, size_t count)
{
    enum { BIT_BUFFER = 7 }; /* bytes that it can hold of each interval */

    guard->leftovers++;
    if (count > JPEG_STRAYS_MAX + BIT_BUFFER * guard->restarts &&
        memcmp(end - count, end - count + 1, count - 1) != 0)
        guard->garbage = true;
    guard->restarts = 0;
}

/* libjpeg traces the markers that it reads: what is left over behind a segment is none of a scan's
 * data. */
static void note_marker(struct jpeg_guard *guard, int message)
{
    switch (message) {
    case JTRC_SOS_PARAMS:
        guard->in_scan = true;
        guard->restarts = 0;
        break;
    case JTRC_RST:
        guard->restarts++;
        break;
    case JTRC_DHT:
    case JTRC_DQT:
    case JTRC_DRI:
    case JTRC_MISC_MARKER:
        guard->in_scan = false;
        break;
    default:
        break;
    }
}

static void emit_message(j_common_ptr codec, int level)
{
    struct jpeg_guard *guard = guard_of(codec);

    if (level >= 0) {
        note_marker(guard, codec->err->msg_code);
        return;
    }
    switch (codec->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_NOT_SEQUENTIAL:
        break;
    case JWRN_EXTRANEOUS_DATA:
        if (guard->in_scan)
            note_leftover(guard, ((j_decompress_ptr)codec)->src->next_input_byte,
                          (size_t)codec->err->msg_parm.i[0]);
        break;
    default:
        error_exit(codec);
    }
}

static void ignore_message(j_common_ptr codec)
{
    (void)codec;
}

static void poll_cancelled(j_common_ptr codec)
{
    struct jpeg_guard *guard = guard_of(codec);

    if (guard->cancelled != NULL && atomic_load_explicit(guard->cancelled, memory_order_relaxed))
        jpeg_guard_leave(guard, JPEG_CANCELLED);
}

void jpeg_guard_init(struct jpeg_guard *guard, j_common_ptr codec, const atomic_bool *cancelled)
{
    codec->err = jpeg_std_error(&guard->manager);
    guard->manager.error_exit = error_exit;
    guard->manager.emit_message = emit_message;
    guard->manager.output_message = ignore_message;
    guard->progress = (struct jpeg_progress_mgr){.progress_monitor = poll_cancelled};
    guard->cancelled = cancelled;
    guard->in_scan = guard->garbage = false;
    guard->restarts = 0;
    guard->leftovers = 0;
    guard->state = JPEG_FINE;
}

bool jpeg_guard_run(struct jpeg_guard *guard, void (*step)(void *arg), void *arg)
{
    guard->state = JPEG_FINE;
    if (setjmp(guard->escape) != 0)
        return false;
    step(arg);
    return true;
}

void jpeg_guard_leave(struct jpeg_guard *guard, int state)
{
    guard->state = state;
    longjmp(guard->escape, 1);
}

bool jpeg_guard_failed(const struct jpeg_guard *guard, struct error *err, enum error_code code,
                       const char *what)
{
    if (guard->state == JPEG_CANCELLED)
        return error_set(err, ERROR_DEADLINE, "the image took too long");
    if (guard->state == JPEG_NO_MEMORY)
        return error_oom(err);
    return error_set(err, code, "%s", what);
}
