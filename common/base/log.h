/* Structured log on standard output: one JSON object a line with Cloud Logging's field names
 * (severity, message, time, …), or plain text. What has a caller returns errors; handlers and
 * threads log. Thread-safe; lines are never interleaved. Messages and values that are longer than
 * LOG_VALUE_MAX are cut, fields that no longer fit a line of 32 KiB are left out; whatever the
 * values hold, a line stays one line of valid JSON.
 *
 *     log_info("stored", F("key", key), F("bytes", n));
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_JSON, LOG_TEXT };
enum { LOG_VALUE_MAX = 2048 };

struct log_field {
    const char *key;
    enum { LOG_FIELD_STRING, LOG_FIELD_INT, LOG_FIELD_DOUBLE, LOG_FIELD_BOOL, LOG_FIELD_RAW } type;
    union {
        const char *string; /* LOG_FIELD_RAW: ready JSON, left out of the text format */
        int64_t integer;
        double real;
        bool boolean;
    };
};

static inline struct log_field log_field_string(const char *key, const char *v)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_STRING, .string = v};
}
static inline struct log_field log_field_int(const char *key, int64_t v)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_INT, .integer = v};
}
static inline struct log_field log_field_uint(const char *key, uint64_t v)
{
    return log_field_int(key, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}
static inline struct log_field log_field_double(const char *key, double v)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_DOUBLE, .real = v};
}
static inline struct log_field log_field_bool(const char *key, bool v)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_BOOL, .boolean = v};
}
static inline struct log_field log_field_raw(const char *key, const char *json)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_RAW, .string = json};
}

/* One field, typed by its value. */
#define F(key, value)                                                                              \
    _Generic((value), char *: log_field_string, const char *: log_field_string,                   \
             bool: log_field_bool, double: log_field_double, int: log_field_int,                  \
             long: log_field_int, long long: log_field_int, unsigned: log_field_uint,             \
             unsigned long: log_field_uint, unsigned long long: log_field_uint)(key, value)

/* Set once at start, before threads. */
void log_init(const char *service, enum log_level level, enum log_format format);
/* Of a command, whose standard output is its answer: plain text on standard error. */
void log_init_command(const char *service);

/* Whether lines of this level are written: ask before work that only the log needs. */
bool log_is_written(enum log_level level);
/* `fields` ends with LOG_END. */
void log_write(enum log_level level, const char *message, const struct log_field *fields);

#define LOG_END ((struct log_field){0})
#define LOG_(level, message, ...) log_write(level, message, (const struct log_field[]){__VA_ARGS__})

#define log_info(...) LOG_(LOG_INFO, __VA_ARGS__, LOG_END)
#define log_warning(...) LOG_(LOG_WARNING, __VA_ARGS__, LOG_END)
#define log_error(...) LOG_(LOG_ERROR, __VA_ARGS__, LOG_END)
