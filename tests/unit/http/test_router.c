#include "http/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka needs the above */
#include <cmocka.h>

static struct reply handle(const struct app *app, const struct request *req)
{
    (void)app;
    (void)req;
    return reply_empty(200);
}

static const struct route routes[] = {
    {"GET", "/", handle, true},
    {"GET", "/images/{id}", handle, false},
    {"POST", "/images/upload", handle, false},
    {"GET", "/both", handle, false},
    {"POST", "/both", handle, false},
    {"POST", "/preprocess", handle, false},
    {"GET", "/models/{m}", handle, false},
    {"GET", "/models/{m}/ready", handle, false},
    {"POST", "/models/{m}/infer", handle, false},
    {"DELETE", "/all", handle, false},
    {"PATCH", "/all", handle, false},
    {"POST", "/all", handle, false},
    {"GET", "/all", handle, false},
    {ROUTER_CALL, "/s.S/Call", handle, false},
};

static void requests_find_their_route(void **state)
{
    static const struct {
        const char *method, *path;
        int index; /* -1: 404, -2: 405 */
        const char *argument;
    } cases[] = {
        {"GET", "/", 0, ""},
        {"HEAD", "/", 0, ""},
        {"POST", "/", -2, ""},
        {"DELETE", "/all", 9, ""},
        {"PATCH", "/all", 10, ""},
        {"PUT", "/all", -2, ""},
        {"get", "/", -2, ""},
        {"GET", "", -1, ""},
        {"GET", "//", -1, ""},
        {"GET", "/images/abc.jpg", 1, "abc.jpg"},
        {"HEAD", "/images/abc", 1, "abc"},
        {"GET", "/images/", -1, ""},
        {"GET", "/images", -1, ""},
        {"GET", "/images/a/b", -1, ""},
        {"GET", "/images/a/", -1, ""},
        {"DELETE", "/images/a", -2, ""},
        {"POST", "/images/upload", 2, ""},
        {"GET", "/images/upload", 1, "upload"},
        {"GET", "/both", 3, ""},
        {"HEAD", "/both", 3, ""},
        {"POST", "/both", 4, ""},
        {"HEAD", "/preprocess", -2, ""},
        {"POST", "/preprocess/", -1, ""},
        {"POST", "/PREPROCESS", -1, ""},
        {"GET", "/models/a", 6, "a"},
        {"GET", "/models/a/ready", 7, "a/ready"},
        {"POST", "/models/a/infer", 8, "a/infer"},
        {"GET", "/models/a/infer", -2, ""},
        {"GET", "/models//ready", -1, ""},
        {"GET", "/models/ready", 6, "ready"},
        {"GET", "/models/a/b/ready", -1, ""},
        {"GET", "/models/a/ready/", -1, ""},
        {"GET", "/models/a/read", -1, ""},
        {ROUTER_CALL, "/s.S/Call", 13, ""},
        {"POST", "/s.S/Call", -1, ""},
        {"call", "/s.S/Call", -1, ""},
        {ROUTER_CALL, "/preprocess", -1, ""},
        {"A-METHOD-WITH-A-VERY-LONG-NAME-INDEED", "/both", -2, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *argument = NULL;
        struct error err = {0};
        const struct route *route = router_find(routes, ARRAY_SIZE(routes), cases[i].method,
                                                cases[i].path, &argument, &err);
        assert_string_equal(argument, cases[i].argument);
        if (cases[i].index >= 0)
            assert_ptr_equal(route, &routes[cases[i].index]);
        else
            assert_null(route);
        assert_int_equal(err.code, cases[i].index >= 0    ? ERROR_NONE
                                   : cases[i].index == -1 ? ERROR_NOT_FOUND
                                                          : ERROR_METHOD_NOT_ALLOWED);
    }
}

static void allow_lists_every_method_once(void **state)
{
    static const struct {
        const char *path, *allow;
    } cases[] = {
        {"/", "GET, HEAD, OPTIONS"},
        {"/images/x", "GET, HEAD, OPTIONS"},
        {"/preprocess", "POST, OPTIONS"},
        {"/both", "GET, HEAD, POST, OPTIONS"},
        {"/images/upload", "GET, HEAD, POST, OPTIONS"},
        {"/all", "GET, HEAD, POST, PATCH, DELETE, OPTIONS"},
        {"/s.S/Call", "POST, OPTIONS"},
        {"/none", ""},
    };
    char allow[ROUTER_ALLOW_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        router_allow(routes, ARRAY_SIZE(routes), cases[i].path, allow);
        assert_string_equal(allow, cases[i].allow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_find_their_route),
        cmocka_unit_test(allow_lists_every_method_once),
    };
    return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
