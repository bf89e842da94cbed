#include "base/config.h"

#include "base/strings.h"
#include "base/xmalloc.h"

#include <stdarg.h>
#include <string.h>

bool config_mistake(struct buffer *mistakes, const char *fmt, ...)
{
    char line[CONFIG_MISTAKE_MAX];
    struct error err = {0};
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    /* over the buffer's maximum the rest of the mistakes is dropped: the first ones are told */
    (void)!buffer_printf(mistakes, &err, "%s\n", line);
    return false;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t len = strcspn(value, "|");

    for (const char *c = choices; c != NULL && len > 0 && value[len] == '\0';
         c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
        if (strncmp(c, value, len) == 0 && (c[len] == '|' || c[len] == '\0'))
            return true;
    return false;
}

bool config_bool(const char *value, bool *ret)
{
    bool on = is_choice("on|true|1|yes", value);

    *ret = on;
    return on || is_choice("off|false|0|no", value);
}

static bool read_row(const struct setting *row, const char *value, void *field,
                     struct buffer *mistakes)
{
    switch (row->type) {
    case SETTING_INT:
        if (string_to_int64(value, row->min, row->max, (int64_t *)field))
            return true;
        return config_mistake(mistakes, "%s: not a whole number from %lld to %lld", row->name,
                              (long long)row->min, (long long)row->max);
    case SETTING_BOOL:
        return config_bool(value, (bool *)field) ||
               config_mistake(mistakes, "%s: not on or off", row->name);
    case SETTING_CHOICE:
        if (!is_choice(row->choices, value))
            return config_mistake(mistakes, "%s: not one of %s", row->name, row->choices);
        break;
    case SETTING_STRING:
        if (!string_is_utf8(bytes_from_str(value)) || strpbrk(value, "\r\n") != NULL)
            return config_mistake(mistakes, "%s: has a line break or is not UTF-8", row->name);
        break;
    }
    *(char **)field = xstrdup(value);
    return true;
}

bool config_read(const struct setting *table, size_t rows, unsigned service, void *config,
                 struct buffer *mistakes)
{
    bool ok = true;

    for (size_t i = 0; i < rows; i++) {
        const struct setting *row = &table[i];
        if ((row->services & service) == 0)
            continue;
        const char *value = getenv(row->name);
        if (value == NULL || *value == '\0') /* an empty variable is an unset one */
            value = row->fallback;
        if (value == NULL)
            value = row->type == SETTING_STRING ? "" : NULL;
        if (value != NULL)
            ok = read_row(row, value, (char *)config + row->offset, mistakes) && ok;
    }
    return ok;
}

void config_done(const struct setting *table, size_t rows, void *config)
{
    for (size_t i = 0; i < rows; i++) {
        if (table[i].type != SETTING_STRING && table[i].type != SETTING_CHOICE)
            continue;
        char **field = (char **)((char *)config + table[i].offset);
        free(*field);
        *field = NULL;
    }
}

static bool describe_row(const struct setting *row, const void *field, struct buffer *out,
                         struct error *err)
{
    if (row->type == SETTING_INT)
        return buffer_printf(out, err, "%lld", (long long)*(const int64_t *)field);
    if (row->type == SETTING_BOOL)
        return buffer_append_str(out, *(const bool *)field ? "on" : "off", err);
    const char *value = *(char *const *)field;
    if (row->secret)
        return buffer_append_str(out, *value != '\0' ? "(set)" : "", err);
    return buffer_append(out, value, strcspn(value, "?"), err); /* a URL's query may be secret */
}

bool config_describe(const struct setting *table, size_t rows, unsigned service, const void *config,
                     struct buffer *out, struct error *err)
{
    for (size_t i = 0; i < rows; i++) {
        const struct setting *row = &table[i];
        if ((row->services & service) != 0 &&
            (!buffer_printf(out, err, "%s%s=", out->len > 0 ? " " : "", row->name) ||
             !describe_row(row, (const char *)config + row->offset, out, err)))
            return false;
    }
    return true;
}

void config_print_help(const struct setting *table, size_t rows, unsigned service, FILE *out)
{
    for (size_t i = 0; i < rows; i++) {
        const struct setting *row = &table[i];
        if ((row->services & service) == 0)
            continue;
        const char *fallback =
            row->fallback != NULL && *row->fallback != '\0' ? row->fallback : "-";
        fprintf(out, "  %-24s %-34s %s", row->name, fallback, row->help);
        if (row->type == SETTING_CHOICE)
            fprintf(out, " (%s)", row->choices);
        if (row->type == SETTING_INT)
            fprintf(out, " (%lld to %lld)", (long long)row->min, (long long)row->max);
        if (row->secret)
            fputs(" (secret)", out);
        fputc('\n', out);
    }
}
