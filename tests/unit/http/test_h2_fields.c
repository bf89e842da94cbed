#include "../test_cases.h"
#include "http/h2_fields.h"

static const struct server_options options = {.cors_origins = ""};
static struct admission admission = {.options = &options};

static void add(struct h2_fields *f, const char *name, const char *value)
{
    h2_fields_add(f, bytes_from_str(name), bytes_from_str(value));
}

static struct exchange *begin(struct h2_fields *f)
{
    static struct exchange x;

    x = (struct exchange){.admission = &admission};
    h2_fields_begin(f, &x);
    return &x;
}

static struct exchange *target(struct h2_fields *f, const char *path)
{
    h2_fields_init(f);
    add(f, ":method", "GET");
    add(f, ":path", path);
    return begin(f);
}

TEST(the_request_is_made_of_them)
{
    struct h2_fields f;

    h2_fields_init(&f);
    add(&f, ":method", "POST");
    add(&f, ":scheme", "http");
    add(&f, ":path", "/a%20b?x=1&y=%41+b&flag&&z=");
    add(&f, ":authority", "host:1");
    add(&f, "content-type", "image/jpeg");
    const struct request *req = &begin(&f)->req;
    assert_string_equal(req->method, "POST");
    assert_string_equal(req->path, "/a b");
    assert_string_equal(request_header(req, "Host"), "host:1");
    assert_string_equal(request_header(req, "Content-Type"), "image/jpeg");
    assert_int_equal(req->header_count, 2);
    assert_int_equal(req->query_count, 4);
    assert_string_equal(request_query(req, "x"), "1");
    assert_string_equal(request_query(req, "y"), "A b");
    assert_string_equal(request_query(req, "flag"), "");
    assert_string_equal(request_query(req, "z"), "");
    h2_fields_done(&f);
}

TEST(a_host_field_wins)
{
    struct h2_fields f;

    h2_fields_init(&f);
    add(&f, ":method", "GET");
    add(&f, ":path", "/");
    add(&f, ":authority", "one");
    add(&f, "host", "two");
    const struct request *req = &begin(&f)->req;
    assert_string_equal(request_header(req, "Host"), "two");
    assert_int_equal(req->header_count, 1);
    h2_fields_done(&f);
}

TEST(bad_targets_are_told)
{
    static const char *const bad[] = {"/a%00b", "/a b", "/?x=%00", "/?%00"};
    static const char *const good[] = {"/", "*", "/%zz%", "/?a=%2", ""};
    struct h2_fields f;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_true(target(&f, bad[i])->fields_bad);
        h2_fields_done(&f);
    }
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_false(target(&f, good[i])->fields_bad);
        h2_fields_done(&f);
    }
}

TEST(too_many_parameters_are_told)
{
    struct h2_fields f;
    char path[4 * EXCHANGE_FIELDS_MAX + 8] = "/?a";

    for (int i = 1; i < EXCHANGE_FIELDS_MAX; i++)
        strcat(path, "&a");
    assert_false(target(&f, path)->fields_bad);
    h2_fields_done(&f);
    strcat(path, "&a");
    assert_true(target(&f, path)->fields_bad);
    h2_fields_done(&f);
}

TEST(too_much_is_left_out)
{
    static char large[H2_FIELDS_BYTES_MAX];
    struct h2_fields f;

    h2_fields_init(&f);
    add(&f, ":method", "GET");
    add(&f, ":path", "/");
    memset(large, 'x', sizeof(large) - 1);
    add(&f, "large", large);
    add(&f, "small", "1");
    const struct exchange *x = begin(&f);
    assert_true(x->headers_too_large);
    assert_int_equal(x->req.header_count, 0);
    assert_string_equal(x->req.path, "/");
    h2_fields_done(&f);

    h2_fields_init(&f);
    for (int i = 0; i <= EXCHANGE_FIELDS_MAX; i++)
        add(&f, "n", "1");
    assert_true(begin(&f)->headers_too_large);
    h2_fields_done(&f);
}

TEST_MAIN(NULL, NULL)
