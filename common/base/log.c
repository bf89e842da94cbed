#include "base/log.h"

#include "base/clock.h"
#include "base/strings.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

static struct {
    const char *service;
    enum log_level level;
    enum log_format format;
    int fd;
} state = {.service = "darkroom", .level = LOG_INFO, .format = LOG_JSON, .fd = STDOUT_FILENO};

enum { LINE_MAX_BYTES = 32768 };

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool full; /* something did not fit */
};

/* All of it or nothing. */
static void put(struct line *line, const char *s, size_t len)
{
    size_t room = sizeof(line->text) - 2 - line->len; /* for the newline and a closing brace */

    if (len > room) {
        line->full = true;
        return;
    }
    memcpy(line->text + line->len, s, len);
    line->len += len;
}

static void put_str(struct line *line, const char *s)
{
    put(line, s, strlen(s));
}

/* How many characters from here on stand for themselves in a JSON string. */
static size_t plain_len(const char *s, size_t len, bool utf8)
{
    size_t n = 0;

    while (n < len && s[n] != '"' && s[n] != '\\' && (unsigned char)s[n] >= 0x20 && s[n] != 0x7F &&
           (utf8 || (unsigned char)s[n] < 0x80))
        n++;
    return n;
}

static void put_escaped(struct line *line, uint8_t c)
{
    char escaped[8];

    if (c == '"' || c == '\\')
        snprintf(escaped, sizeof(escaped), "\\%c", c);
    else if (c < 0x80)
        snprintf(escaped, sizeof(escaped), "\\u%04x", c);
    else
        snprintf(escaped, sizeof(escaped), "?");
    put_str(line, escaped);
}

/* JSON string, RFC 8259; bytes that are not UTF-8 become '?' so that a line is always valid. */
static void put_quoted(struct line *line, const char *s)
{
    struct bytes text = bytes_of(s, strnlen(s, LOG_VALUE_MAX));
    if (text.len == LOG_VALUE_MAX) /* cut: not in the middle of a character */
        while (text.len > 0 && (s[text.len] & 0xC0) == 0x80)
            text.len--;
    bool utf8 = string_is_utf8(text);

    put_str(line, "\"");
    for (size_t i = 0; i < text.len;) {
        size_t plain = plain_len(s + i, text.len - i, utf8); /* most of it: at once */
        put(line, s + i, plain);
        i += plain;
        if (i < text.len)
            put_escaped(line, text.data[i++]);
    }
    put_str(line, "\"");
}

/* Text that may quote others: it stays on its line and sends a terminal nothing. */
static void put_plain(struct line *line, const char *s)
{
    for (size_t left = LOG_VALUE_MAX; *s != '\0' && left > 0; s++, left--)
        put(line, (unsigned char)*s < ' ' || *s == 0x7F ? "?" : s, 1);
}

static void put_value(struct line *line, const struct log_field *field)
{
    char number[32];

    switch (field->type) {
    case LOG_FIELD_STRING:
        put_quoted(line, field->string != NULL ? field->string : "");
        return;
    case LOG_FIELD_RAW:
        put_str(line, field->string != NULL ? field->string : "null");
        return;
    case LOG_FIELD_INT:
        snprintf(number, sizeof(number), "%lld", (long long)field->integer);
        break;
    case LOG_FIELD_DOUBLE:
        snprintf(number, sizeof(number), "%.6g", isfinite(field->real) ? field->real : 0.0);
        break;
    case LOG_FIELD_BOOL:
        snprintf(number, sizeof(number), "%s", field->boolean ? "true" : "false");
        break;
    }
    put_str(line, number);
}

/* A field that does not fit is left out: half of one would spoil the line. */
static void drop_partial(struct line *line, size_t before)
{
    if (line->full)
        line->len = before;
    line->full = false;
}

static void format_json(struct line *line, const char *severity, const char *message,
                        const struct log_field *fields)
{
    char now[CLOCK_RFC3339_LEN];

    clock_rfc3339(clock_wall_ms(), now);
    put_str(line, "{\"severity\":\"");
    put_str(line, severity);
    put_str(line, "\",\"time\":\"");
    put_str(line, now);
    put_str(line, "\",\"service\":");
    put_quoted(line, state.service);
    put_str(line, ",\"message\":");
    put_quoted(line, message);
    for (; fields->key != NULL; fields++) {
        size_t before = line->len;
        put_str(line, ",");
        put_quoted(line, fields->key);
        put_str(line, ":");
        put_value(line, fields);
        drop_partial(line, before);
    }
    line->text[line->len++] = '}';
}

static void format_text(struct line *line, const char *severity, const char *message,
                        const struct log_field *fields)
{
    char now[CLOCK_RFC3339_LEN];

    clock_rfc3339(clock_wall_ms(), now);
    put(line, now + 11, 12);
    put_str(line, " ");
    put(line, severity, 4);
    put_str(line, " ");
    put_str(line, state.service);
    put_str(line, ": ");
    put_plain(line, message);
    for (; fields->key != NULL; fields++) {
        size_t before = line->len;
        if (fields->type == LOG_FIELD_RAW)
            continue;
        put_str(line, " ");
        put_plain(line, fields->key);
        put_str(line, "=");
        put_value(line, fields);
        drop_partial(line, before);
    }
}

void log_init(const char *service, enum log_level level, enum log_format format)
{
    state.service = service;
    state.level = level;
    state.format = format;
}

void log_init_command(const char *service)
{
    log_init(service, LOG_INFO, LOG_TEXT);
    state.fd = STDERR_FILENO;
}

static void write_all(const char *text, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(state.fd, text + done, len - done);
        if (n < 0 && errno != EINTR)
            return;
        done += n > 0 ? (size_t)n : 0;
    }
}

bool log_is_written(enum log_level level)
{
    return level >= state.level;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    static const char *const severities[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static struct line line; /* not on the small stacks of a thousand connections */

    if (!log_is_written(level))
        return;
    pthread_mutex_lock(&mutex);
    line.len = 0;
    line.full = false;
    if (state.format == LOG_JSON)
        format_json(&line, severities[level], message, fields);
    else
        format_text(&line, severities[level], message, fields);
    line.text[line.len++] = '\n';
    /* a pipe that is nearly full takes a line in pieces, and others' in between: still locked */
    write_all(line.text, line.len);
    pthread_mutex_unlock(&mutex);
}
