#include "../test_cases.h"
#include "base/log.h"
#include "base/strings.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>

enum { OUTPUT_MAX = 64 * 1024 * 1024, THREADS = 16, LINES = 200 };

/* What is written to standard output meanwhile, through a pipe. */
struct capture {
    int saved, in;
    pthread_t reader;
    struct buffer output;
};

static void *read_all(void *arg)
{
    struct capture *c = arg;
    struct error err;
    char chunk[1000]; /* little at a time: the pipe is mostly full */
    ssize_t n;

    while ((n = read(c->in, chunk, sizeof(chunk))) > 0)
        if (!buffer_append(&c->output, chunk, (size_t)n, &err))
            break;
    return NULL;
}

static void capture_begin(struct capture *c)
{
    int fds[2];

    fflush(stdout);
    assert_int_equal(pipe(fds), 0);
    *c = (struct capture){
        .saved = dup(STDOUT_FILENO), .in = fds[0], .output = BUFFER_MAX(OUTPUT_MAX)};
    dup2(fds[1], STDOUT_FILENO);
    close(fds[1]);
    assert_int_equal(pthread_create(&c->reader, NULL, read_all, c), 0);
}

/* The text; freed by capture_done. */
static const char *capture_end(struct capture *c)
{
    struct error err;

    dup2(c->saved, STDOUT_FILENO);
    close(c->saved);
    pthread_join(c->reader, NULL);
    close(c->in);
    return buffer_cstr(&c->output, &err);
}

static void capture_done(struct capture *c)
{
    buffer_done(&c->output);
}

/* The line as JSON; *text goes on to the next one. */
static json_t *next_line(const char **text)
{
    const char *end = strchr(*text, '\n');
    json_error_t why;

    assert_non_null(end);
    json_t *json = json_loadb(*text, (size_t)(end - *text), JSON_REJECT_DUPLICATES, &why);
    if (json == NULL)
        fail_msg("%s: %.*s", why.text, (int)(end - *text), *text);
    *text = end + 1;
    return json;
}

static const char *string_of(const json_t *json, const char *key)
{
    const char *s = json_string_value(json_object_get(json, key));

    assert_non_null(s);
    return s;
}

TEST(fields_are_typed)
{
    CLEANUP(capture_done) struct capture c;

    log_init("some-service", LOG_INFO, LOG_JSON);
    capture_begin(&c);
    log_warning("a message", F("text", "value"), F("int", -5), F("long", INT64_MIN),
                F("big", UINT64_MAX), F("real", 0.5), F("yes", (bool)true),
                F("none", (const char *)NULL), log_field_double("nan", 0.0 / 0.0),
                log_field_raw("raw", "{\"a\":[1]}"), log_field_raw("null", NULL));
    log_write(LOG_DEBUG, "not logged", &LOG_END);
    const char *text = capture_end(&c);
    json_t *line = next_line(&text);
    assert_string_equal(text, "");
    assert_string_equal(string_of(line, "severity"), "WARNING");
    assert_string_equal(string_of(line, "service"), "some-service");
    assert_string_equal(string_of(line, "message"), "a message");
    assert_int_equal(strlen(string_of(line, "time")), strlen("2026-01-02T03:04:05.678Z"));
    assert_string_equal(string_of(line, "text"), "value");
    assert_int_equal(json_integer_value(json_object_get(line, "int")), -5);
    assert_int_equal(json_integer_value(json_object_get(line, "long")), INT64_MIN);
    assert_int_equal(json_integer_value(json_object_get(line, "big")), INT64_MAX);
    assert_true(json_real_value(json_object_get(line, "real")) == 0.5);
    assert_true(json_is_true(json_object_get(line, "yes")));
    assert_string_equal(string_of(line, "none"), "");
    assert_true(json_is_number(json_object_get(line, "nan")));
    assert_int_equal(json_array_size(json_object_get(json_object_get(line, "raw"), "a")), 1);
    assert_true(json_is_null(json_object_get(line, "null")));
    json_decref(line);
}

TEST(levels)
{
    CLEANUP(capture_done) struct capture c;

    log_init("s", LOG_WARNING, LOG_JSON);
    capture_begin(&c);
    log_write(LOG_DEBUG, "debug", &LOG_END);
    log_info("info");
    log_warning("warning");
    log_error("error");
    const char *text = capture_end(&c);
    for (int i = 0; i < 2; i++) {
        json_t *line = next_line(&text);
        assert_string_equal(string_of(line, "message"), i == 0 ? "warning" : "error");
        json_decref(line);
    }
    assert_string_equal(text, "");
}

static char every_byte[256];
static char long_controls[20000], long_text[20000], long_utf8[20000], long_invalid[20000];

static const char *const hostile[] = {
    "",
    "\"",
    "\\",
    "\\\"}\n{\"severity\":\"ERROR\",\"message\":\"forged\"}",
    "\r\nforged",
    "\x1b[31mred\x1b[0m\b\b\b",
    "\x7F",
    "caf\xC3\xA9 \xF0\x9F\x93\xB7",
    "\xE2\x80\xA8 line separator",
    "latin-1: caf\xE9",
    "overlong: \xC0\x80",
    "surrogate: \xED\xA0\x80",
    "cut: \xE2\x82",
    "%s%n%d",
    every_byte,
    long_controls,
    long_text,
    long_utf8,
    long_invalid,
};

static int make_hostile(void **state)
{
    for (int i = 1; i < 256; i++)
        every_byte[i - 1] = (char)i;
    memset(long_controls, 1, sizeof(long_controls) - 1);
    memset(long_text, 'x', sizeof(long_text) - 1);
    memset(long_invalid, 0x80, sizeof(long_invalid) - 1);
    long_utf8[0] = 'x'; /* so that no cut falls between characters by itself */
    for (size_t i = 1; i + 4 < sizeof(long_utf8); i += 3)
        memcpy(long_utf8 + i, "\xE2\x82\xAC", 3);
    return 0;
}

TEST(hostile_values_in_json)
{
    log_init("s", LOG_INFO, LOG_JSON);
    for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
        CLEANUP(capture_done) struct capture c;
        capture_begin(&c);
        log_info(hostile[i], F("a", hostile[i]), F("b", 1));
        const char *text = capture_end(&c);
        json_t *line = next_line(&text);
        assert_string_equal(text, "");
        assert_string_equal(string_of(line, "severity"), "INFO");
        const char *value = string_of(line, "a");
        assert_string_equal(string_of(line, "message"), value);
        assert_int_equal(json_integer_value(json_object_get(line, "b")), 1);
        if (strlen(hostile[i]) < LOG_VALUE_MAX && string_is_utf8(bytes_from_str(hostile[i])))
            assert_string_equal(value, hostile[i]);
        else
            assert_true(strlen(value) <= LOG_VALUE_MAX);
        json_decref(line);
    }
}

/* Each value is a JSON string there too, and the message cannot leave its line. */
TEST(hostile_values_in_text)
{
    log_init("s", LOG_INFO, LOG_TEXT);
    for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
        CLEANUP(capture_done) struct capture c;
        capture_begin(&c);
        log_info(hostile[i], F("last", hostile[i]));
        const char *text = capture_end(&c);
        const char *end = strchr(text, '\n');
        assert_non_null(end);
        assert_string_equal(end, "\n");
        for (const char *p = text; p < end; p++)
            assert_true((unsigned char)*p >= ' ' && *p != 0x7F);
        const char *value = NULL;
        for (const char *p = text; (p = strstr(p, " last=\"")) != NULL; p++)
            value = p + strlen(" last=");
        assert_non_null(value);
        json_t *json = json_loadb(value, (size_t)(end - value), JSON_DECODE_ANY, NULL);
        assert_non_null(json);
        json_decref(json);
    }
}

/* More than a line holds: whole fields are left out, the line is still one. */
TEST(too_many_fields)
{
    static const enum log_format formats[] = {LOG_JSON, LOG_TEXT};
    struct log_field fields[12] = {{0}};

    for (size_t i = 0; i < 10; i++) {
        static const char *const keys[] = {"f0", "f1", "f2", "f3", "f4",
                                           "f5", "f6", "f7", "f8", "f9"};
        fields[i] = log_field_string(keys[i], long_controls);
    }
    fields[10] = log_field_int("small", 7);
    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        CLEANUP(capture_done) struct capture c;
        log_init("s", LOG_INFO, formats[f]);
        capture_begin(&c);
        log_write(LOG_INFO, "much", fields);
        const char *text = capture_end(&c);
        if (formats[f] == LOG_TEXT) {
            assert_non_null(strstr(text, " small=7\n"));
            continue;
        }
        json_t *line = next_line(&text);
        assert_string_equal(text, "");
        assert_int_equal(strlen(string_of(line, "f0")), LOG_VALUE_MAX);
        assert_null(json_object_get(line, "f9"));
        assert_int_equal(json_integer_value(json_object_get(line, "small")), 7);
        json_decref(line);
    }
}

static void *log_many(void *arg)
{
    char text[6000];
    int n = *(int *)arg;

    memset(text, 'a' + n, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < LINES; i++)
        log_info("line", F("thread", n), F("i", i), F("one", (const char *)text),
                 F("two", (const char *)text), F("three", (const char *)text));
    return NULL;
}

/* Lines longer than a pipe takes at once, from many threads, to a slow reader. */
TEST(lines_are_never_interleaved)
{
    CLEANUP(capture_done) struct capture c;
    pthread_t threads[THREADS];
    int numbers[THREADS], next[THREADS] = {0};

    log_init("s", LOG_INFO, LOG_JSON);
    capture_begin(&c);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    const char *text = capture_end(&c);
    for (int i = 0; i < THREADS * LINES; i++) {
        json_t *line = next_line(&text);
        json_int_t n = json_integer_value(json_object_get(line, "thread"));
        assert_in_range(n, 0, THREADS - 1);
        assert_int_equal(json_integer_value(json_object_get(line, "i")), next[n]++);
        json_decref(line);
    }
    assert_string_equal(text, "");
}

TEST_MAIN(make_hostile, NULL)
