#include "http/router.h"

#include <string.h>

static bool matches(const char *pattern, const char *path, const char **argument)
{
    *argument = "";
    while (*pattern != '\0') {
        if (*pattern == '{') {
            size_t len = strcspn(path, "/");
            if (len == 0)
                return false;
            *argument = path;
            path += len;
            pattern += strcspn(pattern, "}") + 1;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

bool router_is_call(const struct route *route)
{
    return strcmp(route->method, ROUTER_CALL) == 0 || strcmp(route->method, ROUTER_STREAM) == 0;
}

const struct route *router_find(const struct route *routes, size_t count, const char *method,
                                const char *path, const char **argument, struct error *err)
{
    bool call = strcmp(method, ROUTER_CALL) == 0, known = false;

    for (size_t i = 0; i < count; i++) {
        /* requests and calls know nothing of each other's paths */
        if (router_is_call(&routes[i]) != call || !matches(routes[i].pattern, path, argument))
            continue;
        known = true;
        if (call || strcmp(routes[i].method, method) == 0 ||
            (strcmp(routes[i].method, "GET") == 0 && strcmp(method, "HEAD") == 0))
            return &routes[i];
    }
    *argument = "";
    if (known)
        error_set(err, ERROR_METHOD_NOT_ALLOWED, "%.16s is not one of the methods in Allow",
                  method);
    else
        error_set(err, ERROR_NOT_FOUND, "no such path; /openapi.json lists the paths");
    return NULL;
}

/* A call is a POST, to a browser that asks whether it may make one. */
static const char *http_method(const struct route *route)
{
    return strcmp(route->method, ROUTER_CALL) == 0 ? "POST" : route->method;
}

void router_allow(const struct route *routes, size_t count, const char *path,
                  char out[ROUTER_ALLOW_MAX])
{
    const char *argument;
    static const struct {
        const char *method, *allow;
    } methods[] = {
        {"GET", "GET, HEAD, "}, {"POST", "POST, "},     {"PUT", "PUT, "},
        {"PATCH", "PATCH, "},   {"DELETE", "DELETE, "},
    };
    bool known = false;

    *out = '\0';
    for (size_t m = 0; m < ARRAY_SIZE(methods); m++)
        for (size_t i = 0; i < count; i++)
            if (strcmp(http_method(&routes[i]), methods[m].method) == 0 &&
                matches(routes[i].pattern, path, &argument)) {
                strcat(out, methods[m].allow);
                known = true;
                break;
            }
    if (known)
        strcat(out, "OPTIONS");
}
