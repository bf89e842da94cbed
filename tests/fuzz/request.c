/* A request's head: "METHOD path" and header lines, the first byte being the version. */
#include "../../classify_service/app.h"
#include "base/log.h"
#include "fuzz.h"
#include "http/cors.h"
#include "objects/object_name.h"

#include <ctype.h>

extern const struct route preprocess_routes[]; /* its app.h cannot be included besides */
extern const size_t preprocess_route_count;

static size_t count_of(const struct request *req, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < req->header_count; i++)
        n += strcasecmp(req->headers[i].name, name) == 0;
    return n;
}

/* What is let through can be read in one way only. */
static void check_framing(const struct request *req, bool http_1_0)
{
    struct error err = {0};
    const char *length = request_header(req, "content-length");
    const char *encoding = request_header(req, "TRANSFER-ENCODING");
    int64_t announced;

    if (!request_framing_check(req, http_1_0, &announced, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
        return;
    }
    FUZZ_CHECK(count_of(req, "Content-Length") + count_of(req, "Transfer-Encoding") <= 1);
    FUZZ_CHECK(count_of(req, "Host") <= 1 && count_of(req, "Content-Type") <= 1);
    FUZZ_CHECK(length == NULL || (*length != '\0' && length[strspn(length, "0123456789")] == '\0'));
    FUZZ_CHECK(announced == (length == NULL ? 0 : strtoll(length, NULL, 10)));
    FUZZ_CHECK(encoding == NULL || (!http_1_0 && strcasecmp(encoding, "chunked") == 0));
    FUZZ_CHECK(encoding == NULL || request_expects_body(req));
}

static void check_values(const struct request *req)
{
    char type[MEDIA_TYPE_MAX];

    request_media_type(req, type);
    FUZZ_CHECK(strpbrk(type, "; \t") == NULL);
    for (const char *p = type; *p != '\0'; p++)
        FUZZ_CHECK(!isupper((unsigned char)*p));
    for (size_t i = 0; i < req->header_count; i++) {
        const char *value = req->headers[i].value;
        FUZZ_CHECK(!request_id_is_valid(value) ||
                   (strlen(value) <= REQUEST_ID_MAX && strpbrk(value, " \"\\\r\n\t;,") == NULL));
        FUZZ_CHECK(!traceparent_is_valid(value) || strlen(value) == TRACEPARENT_LEN);
        FUZZ_CHECK(!etag_matches(value, "abc") || strcmp(value, "*") == 0 ||
                   strstr(value, "\"abc\"") != NULL);
    }
}

static void check_routes(const struct route *routes, size_t count, const struct request *req)
{
    struct error err = {0};
    char allow[ROUTER_ALLOW_MAX];
    const char *argument = NULL;
    struct object_name name;
    const struct route *route = router_find(routes, count, req->method, req->path, &argument, &err);

    router_allow(routes, count, req->path, allow);
    FUZZ_CHECK(argument != NULL && string_ends_with(req->path, argument));
    if (route != NULL)
        FUZZ_CHECK(*allow != '\0');
    else
        FUZZ_CHECK_ERROR(&err, ERROR_NOT_FOUND, ERROR_METHOD_NOT_ALLOWED);
    FUZZ_CHECK(route != NULL || (err.code == ERROR_NOT_FOUND) == (*allow == '\0'));
    if (object_name_parse(argument, &name))
        FUZZ_CHECK(string_is_sha256_hex(name.id) && strncmp(argument, name.id, 64) == 0);
}

static void check_cors(const char *origins, const struct request *req)
{
    char lines[CORS_LINES_MAX];
    const char *origin = request_header(req, "Origin");

    cors_lines(origins, req, lines);
    size_t len = strlen(lines);
    FUZZ_CHECK(len == 0 || (len > 2 && strcmp(lines + len - 2, "\r\n") == 0));
    if (strstr(lines, "Allow-Origin") != NULL)
        FUZZ_CHECK(origin != NULL &&
                   (strcmp(origins, "*") == 0 || strcasecmp(origin, "https://a.example") == 0 ||
                    strcasecmp(origin, "https://b.example") == 0));
}

static char push_token[] = "tHe-ToKeN", none[] = "";
static struct authorizer *authorizer;

static void free_authorizer(void)
{
    authorizer_free(authorizer);
}

static void start(void)
{
    static const struct settings settings = {.push_token = push_token,
                                             .push_audience = none,
                                             .push_service_account = none,
                                             .auth_audience = none,
                                             .auth_emails = none,
                                             .cors_origins = none};

    log_init("fuzz", LOG_ERROR, LOG_TEXT);
    authorizer = authorizer_new(SERVICE_CLASSIFY, &settings, NULL);
    atexit(free_authorizer);
}

/* Who comes in has said the token, once, behind one "Bearer". */
static void check_authorize(struct request req)
{
    const char *given = request_header(&req, "Authorization");
    struct error err = {0};

    req.route = "/pubsub";
    req.context.id = "id";
    struct caller caller = {0};
    if (authorize(authorizer, &req, &caller, &err)) {
        FUZZ_CHECK(*caller.name == '\0' && !caller.admin);
        FUZZ_CHECK(count_of(&req, "Authorization") == 1);
        FUZZ_CHECK(strncasecmp(given, "Bearer ", 7) == 0);
        FUZZ_CHECK(strcmp(given + 7 + strspn(given + 7, " "), push_token) == 0);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAUTHORIZED);
        FUZZ_CHECK(strstr(err.message, push_token) == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    bool http_1_0 = fuzz_byte(&in) == '0';
    struct bytes first = fuzz_until(&in, "\n");
    CLEANUP_FREE char *method = fuzz_text(fuzz_until(&first, " "));
    CLEANUP_FREE char *path = fuzz_text(first);
    CLEANUP(fuzz_fields_done) struct fuzz_fields fields;
    struct http_field headers[FUZZ_FIELDS_MAX];

    fuzz_fields_read(in, "\n", ": ", &fields);
    for (size_t i = 0; i < fields.count; i++)
        headers[i] = (struct http_field){fields.field[i].name, fields.field[i].value};
    const struct request req = {
        .method = method, .path = path, .headers = headers, .header_count = fields.count};
    if (authorizer == NULL)
        start();
    check_authorize(req);
    check_framing(&req, http_1_0);
    check_values(&req);
    check_routes(preprocess_routes, preprocess_route_count, &req);
    check_routes(classify_routes, classify_route_count, &req);
    check_cors("*", &req);
    check_cors("https://a.example, https://b.example", &req);
    return 0;
}
