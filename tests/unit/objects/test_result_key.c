/* The keys of results and of rejected events' records. */
#include "objects/result_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TASK "01234567-0123-4567-89ab-0123456789ab"

static void a_key_fits_or_is_an_error(void **state)
{
    struct error err = {0};
    char key[11];

    (void)state;
    assert_true(result_key("a.jpg", key, sizeof(key), &err));
    assert_string_equal(key, "a.jpg.json");
    assert_false(result_key("ab.jpg", key, sizeof(key), &err));
    assert_int_equal(err.code, ERROR_BAD_REQUEST);
    assert_false(rejected_key("", ID, key, sizeof(key), &err));
    assert_int_equal(err.code, ERROR_INTERNAL);
}

static void a_rejection_lies_behind_the_prefix(void **state)
{
    struct error err = {0};
    char key[128];

    (void)state;
    assert_true(rejected_key("p/", ID, key, sizeof(key), &err));
    assert_string_equal(key, "p/rejected/" ID ".json");
    assert_true(key_is_output("p/rejected/x", "p/"));
    assert_true(key_is_output("elsewhere/x.json", "p/"));
    assert_false(key_is_output("rejected/x", "p/"));
    assert_false(key_is_output("p/rejected", "p/"));
}

static void a_task_lies_behind_the_prefix(void **state)
{
    struct error err = {0};
    char key[64];

    (void)state;
    assert_true(task_key("p/", TASK, ".png", key, sizeof(key), &err));
    assert_string_equal(key, "p/tasks/" TASK ".png");
    assert_true(key_is_output(key, "p/"));
    assert_false(key_is_output(key, ""));
    assert_false(task_key("p/", TASK, ".png", key, sizeof("p/tasks/" TASK ".png") - 1, &err));
    assert_int_equal(err.code, ERROR_INTERNAL);
    assert_true(task_id_is_valid(TASK));
    assert_false(task_id_is_valid(""));
    assert_false(task_id_is_valid(TASK "0"));
    assert_false(task_id_is_valid("0123456789ABcdef-0123-4567-89ab-0123"));
    assert_false(task_id_is_valid("../45678-0123-4567-89ab-0123456789ab"));
}

static void only_what_the_services_write_is_ours(void **state)
{
    static const struct {
        const char *name;
        enum key_kind kind;
    } cases[] = {
        {ID ".jpg", KEY_OBJECT},
        {ID ".avif", KEY_OBJECT},
        {ID ".jpg.json", KEY_RESULT},
        {"rejected/" ID ".json", KEY_REJECTED},
        {"tasks/" TASK ".json", KEY_TASK},
        {"tasks/" TASK ".png", KEY_TASK},
        {"tasks/" TASK ".jpg", KEY_FOREIGN},
        {"tasks/" TASK, KEY_FOREIGN},
        {"tasks/x.png", KEY_FOREIGN},
        {"tasks/0" TASK ".png", KEY_FOREIGN},
        {TASK ".png", KEY_FOREIGN},
        {"", KEY_FOREIGN},
        {".json", KEY_FOREIGN},
        {ID, KEY_FOREIGN},
        {ID ".json", KEY_FOREIGN},
        {ID ".jpg.json.json", KEY_FOREIGN},
        {"a" ID ".jpg", KEY_FOREIGN},
        {"rejected/" ID, KEY_FOREIGN},
        {"rejected/" ID "0.json", KEY_FOREIGN},
        {"rejected/rejected/" ID ".json", KEY_FOREIGN},
        {ID ID ".jpg.json", KEY_FOREIGN},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (key_kind_of(cases[i].name) != cases[i].kind)
            fail_msg("%s is not %d", cases[i].name, (int)cases[i].kind);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_fits_or_is_an_error),
        cmocka_unit_test(a_rejection_lies_behind_the_prefix),
        cmocka_unit_test(a_task_lies_behind_the_prefix),
        cmocka_unit_test(only_what_the_services_write_is_ours),
    };

    return cmocka_run_group_tests_name("result_key", tests, NULL, NULL);
}
