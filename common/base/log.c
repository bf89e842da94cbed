#include "base/log.h"

#include "base/clock.h"
#include "base/strings.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static struct {
    const char *service;
    enum log_level level;
    enum log_format format;
} state = {.service = "darkroom", .level = LOG_INFO, .format = LOG_JSON};

enum { LINE_MAX_BYTES = 32768 };

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static void put(struct line *line, const char *s, size_t len)
{
    size_t room = sizeof(line->text) - 2 - line->len; /* the newline and a closing brace fit */

    len = len < room ? len : room;
    memcpy(line->text + line->len, s, len);
    line->len += len;
}

static void put_str(struct line *line, const char *s)
{
    put(line, s, strlen(s));
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
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        char escaped[8];
        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof(escaped), "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            snprintf(escaped, sizeof(escaped), "\\u%04x", c);
        else
            snprintf(escaped, sizeof(escaped), "%c", c < 0x80 || utf8 ? c : '?');
        put_str(line, escaped);
    }
    put_str(line, "\"");
}

static void put_value(struct line *line, const struct log_field *field)
{
    char number[32];

    switch (field->type) {
    case LOG_FIELD_STRING:
        put_quoted(line, field->string != NULL ? field->string : "");
        return;
    case LOG_FIELD_RAW:
        put_str(line, field->string);
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
        put_str(line, ",");
        put_quoted(line, fields->key);
        put_str(line, ":");
        put_value(line, fields);
    }
    put_str(line, "}");
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
    put_str(line, message);
    for (; fields->key != NULL; fields++) {
        if (fields->type == LOG_FIELD_RAW)
            continue;
        put_str(line, " ");
        put_str(line, fields->key);
        put_str(line, "=");
        put_value(line, fields);
    }
}

void log_init(const char *service, enum log_level level, enum log_format format)
{
    state.service = service;
    state.level = level;
    state.format = format;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    static const char *const severities[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
    struct line line;

    if (level < state.level)
        return;
    line.len = 0;
    if (state.format == LOG_JSON)
        format_json(&line, severities[level], message, fields);
    else
        format_text(&line, severities[level], message, fields);
    line.text[line.len++] = '\n';
    /* one write per line: lines of several threads and processes stay whole */
    for (size_t done = 0; done < line.len;) {
        ssize_t n = write(STDOUT_FILENO, line.text + done, line.len - done);
        if (n < 0 && errno != EINTR)
            return;
        done += n > 0 ? (size_t)n : 0;
    }
}
