#include "../test_cases.h"
#include "base/config.h"

struct fields {
    char *text;
    int64_t number;
    bool on;
    char *choice;
    char *secret;
    int64_t other;
};

static const struct setting table[] = {
    {"T_TEXT", SETTING_STRING, 1, "usual", 0, 0, NULL, false, offsetof(struct fields, text),
     "text"},
    {"T_NUMBER", SETTING_INT, 1, "5", -3, 9, NULL, false, offsetof(struct fields, number),
     "number"},
    {"T_ON", SETTING_BOOL, 3, "on", 0, 0, NULL, false, offsetof(struct fields, on), "switch"},
    {"T_CHOICE", SETTING_CHOICE, 1, "red", 0, 0, "red|green|gr", false,
     offsetof(struct fields, choice), "choice"},
    {"T_SECRET", SETTING_STRING, 1, NULL, 0, 0, NULL, true, offsetof(struct fields, secret),
     "hush"},
    {"T_OTHER", SETTING_INT, 2, "7", 0, 9, NULL, false, offsetof(struct fields, other), "not ours"},
};

static int unset_all(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        unsetenv(table[i].name);
    return 0;
}

static bool read_all(struct fields *fields, struct buffer *mistakes)
{
    *fields = (struct fields){0};
    return config_read(table, ARRAY_SIZE(table), 1, fields, mistakes);
}

static void assert_mistake(const char *name, const char *value)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(4096);
    struct fields fields;
    struct error err = {0};

    setenv(name, value, 1);
    if (read_all(&fields, &mistakes))
        fail_msg("%s=%s is taken", name, value);
    const char *text = buffer_cstr(&mistakes, &err);
    assert_non_null(text);
    assert_int_equal(strncmp(text, name, strlen(name)), 0);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1); /* one line */
    config_done(table, ARRAY_SIZE(table), &fields);
    unsetenv(name);
}

TEST_WITH(test_defaults, unset_all, NULL)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(4096);
    struct fields fields;

    for (int empty = 0; empty < 2; empty++) { /* an empty variable is an unset one */
        assert_true(read_all(&fields, &mistakes));
        assert_string_equal(fields.text, "usual");
        assert_int_equal(fields.number, 5);
        assert_true(fields.on);
        assert_string_equal(fields.choice, "red");
        assert_string_equal(fields.secret, "");
        assert_int_equal(fields.other, 0); /* another service's */
        config_done(table, ARRAY_SIZE(table), &fields);
        assert_null(fields.text);
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
            setenv(table[i].name, "", 1);
    }
    assert_int_equal(mistakes.len, 0);
}

TEST_WITH(test_values, unset_all, NULL)
{
    static const char *const on[] = {"on", "true", "1", "yes"};
    static const char *const off[] = {"off", "false", "0", "no"};
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(4096);
    struct fields fields;

    setenv("T_TEXT", "caf\xc3\xa9 = x", 1);
    setenv("T_NUMBER", "-3", 1);
    setenv("T_CHOICE", "gr", 1);
    setenv("T_OTHER", "nonsense that nobody reads", 1);
    for (size_t i = 0; i < 8; i++) {
        setenv("T_ON", i < 4 ? on[i] : off[i - 4], 1);
        assert_true(read_all(&fields, &mistakes));
        assert_int_equal(fields.on, i < 4);
        assert_string_equal(fields.text, "caf\xc3\xa9 = x");
        assert_int_equal(fields.number, -3);
        assert_string_equal(fields.choice, "gr");
        config_done(table, ARRAY_SIZE(table), &fields);
    }
}

TEST_WITH(test_mistakes, unset_all, NULL)
{
    assert_mistake("T_NUMBER", "-4");
    assert_mistake("T_NUMBER", "10");
    assert_mistake("T_NUMBER", "5x");
    assert_mistake("T_NUMBER", "99999999999999999999");
    assert_mistake("T_ON", "ON");
    assert_mistake("T_ON", "2");
    assert_mistake("T_CHOICE", "blue");
    assert_mistake("T_CHOICE", "re");
    assert_mistake("T_CHOICE", "red|green");
    assert_mistake("T_TEXT", "two\nlines");
    assert_mistake("T_TEXT", "\xff\xfe");
    assert_mistake("T_SECRET", "a\rb");
}

TEST_WITH(test_all_mistakes_at_once, unset_all, NULL)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(4096);
    struct fields fields;
    struct error err = {0};

    setenv("T_NUMBER", "x", 1);
    setenv("T_ON", "x", 1);
    setenv("T_CHOICE", "x", 1);
    setenv("T_SECRET", "hidden\n", 1);
    assert_false(read_all(&fields, &mistakes));
    config_done(table, ARRAY_SIZE(table), &fields);
    const char *text = buffer_cstr(&mistakes, &err);
    assert_non_null(text);
    for (size_t i = 1; i < 5; i++)
        assert_non_null(strstr(text, table[i].name));
    assert_null(strstr(text, "hidden"));
    assert_null(strstr(text, "T_OTHER"));
}

TEST_WITH(test_full_buffer_keeps_the_first, unset_all, NULL)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(64);
    struct error err = {0};

    for (int i = 0; i < 100; i++)
        assert_false(config_mistake(&mistakes, "mistake %d", i));
    const char *text = buffer_cstr(&mistakes, &err);
    assert_true(mistakes.len <= 64);
    assert_true(text == NULL || strstr(text, "mistake 0\n") == text);
}

TEST_WITH(test_help, unset_all, NULL)
{
    char text[2048] = "";
    FILE *f = fmemopen(text, sizeof(text) - 1, "w");

    assert_non_null(f);
    setenv("T_SECRET", "hidden", 1);
    config_print_help(table, ARRAY_SIZE(table), 1, f);
    fclose(f);
    assert_null(strstr(text, "hidden"));
    assert_null(strstr(text, "T_OTHER"));
    assert_non_null(strstr(text, "usual"));
    assert_non_null(strstr(text, "(-3 to 9)"));
    assert_non_null(strstr(text, "(red|green|gr)"));
    assert_non_null(strstr(text, "hush (secret)"));
}

TEST_MAIN(NULL, NULL)
