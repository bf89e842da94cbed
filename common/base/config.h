/* Configuration from the environment: one table row per setting. Parsing, validation, --help, the
 * start-up log and the README's table all come from the rows. Read once, before any thread. */
#pragma once

#include "base/bytes.h"

enum setting_type {
    SETTING_STRING, /* char *, heap, "" when unset without default */
    SETTING_INT,    /* int64_t, within [min, max] */
    SETTING_BOOL,   /* bool: on|off, true|false, 1|0 */
    SETTING_CHOICE, /* char *, one of `choices` ("a|b|c") */
};

struct setting {
    const char *name; /* environment variable */
    enum setting_type type;
    unsigned services;    /* bit mask: who reads it */
    const char *fallback; /* as it would stand in the environment; NULL: computed (see help) */
    int64_t min, max;     /* SETTING_INT */
    const char *choices;  /* SETTING_CHOICE */
    bool secret;          /* never printed */
    size_t offset;        /* of the field in the configuration struct */
    const char *help;
};

/* on|off and their like, as SETTING_BOOL has them. False: neither. */
bool config_bool(const char *value, bool *ret);

enum { CONFIG_MISTAKE_MAX = 512 }; /* of one line */

/* All mistakes are collected, one line each, so that they are reported together. */
bool config_mistake(struct buffer *mistakes, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Read every row for `service` from the environment into *config (zeroed by the caller; the fields
 * of other rows stay so).
 * True if no mistake was added. String fields are freed by config_done. */
bool config_read(const struct setting *table, size_t rows, unsigned service, void *config,
                 struct buffer *mistakes) NODISCARD;
void config_done(const struct setting *table, size_t rows, void *config);

/* "NAME=value …" of every row for `service`, appended to out, for the log: a secret's value is only
 * said to be set, and a URL's query is left out. */
bool config_describe(const struct setting *table, size_t rows, unsigned service, const void *config,
                     struct buffer *out, struct error *err) NODISCARD;

/* The table as text for --help. */
void config_print_help(const struct setting *table, size_t rows, unsigned service, FILE *out);
