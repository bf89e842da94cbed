#include "../test_cases.h"
#include "darkroom/v1/images.pb-c.h"
#include "grpc/message.h"

static struct byte_budget budget;

static bool read_image(struct bytes body, struct grpc_message *m, struct error *err)
{
    const struct request req = {.body = body, .context = {.budget = &budget}};

    return grpc_message_read(&darkroom__v1__image_request__descriptor, &req, m, err);
}

TEST(a_message_is_read_and_given_back)
{
    static const uint8_t body[] = "\x0a\x03"
                                  "abc"
                                  "\x12\x06\x0a\x01k\x12\x01v\x12\x03\x0a\x01n";
    struct grpc_message m = {0};
    struct error err = {0};

    budget = (struct byte_budget){.max = 10000};
    assert_true(read_image(bytes_of(body, sizeof(body) - 1), &m, &err));
    const Darkroom__V1__ImageRequest *in = (const Darkroom__V1__ImageRequest *)m.message;
    assert_int_equal(in->image.len, 3);
    assert_memory_equal(in->image.data, "abc", 3);
    assert_int_equal(in->n_options, 2);
    assert_string_equal(in->options[0]->key, "k");
    assert_string_equal(in->options[0]->value, "v");
    assert_string_equal(in->options[1]->value, ""); /* absent: empty */
    assert_true(atomic_load(&budget.used) > 0);
    grpc_message_done(&m);
    assert_int_equal(atomic_load(&budget.used), 0);
}

TEST(an_empty_message_is_one)
{
    struct grpc_message m = {0};
    struct error err = {0};

    budget = (struct byte_budget){.max = 10000};
    assert_true(read_image(bytes_of(NULL, 0), &m, &err));
    assert_int_equal(((const Darkroom__V1__ImageRequest *)m.message)->image.len, 0);
    grpc_message_done(&m);
}

TEST(memory_is_bounded)
{
    static uint8_t pieces[2 * (GRPC_MESSAGE_PIECES_MAX + 1)];
    static uint8_t large[9000 + 3] = {0x0a, 0xa8, 0x46}; /* 9000 bytes */
    struct grpc_message m = {0};
    struct error err = {0};

    budget = (struct byte_budget){.max = 100 << 20};
    for (size_t i = 0; i < sizeof(pieces); i += 2)
        pieces[i] = 0x12; /* an option, empty */
    assert_false(read_image(bytes_of(pieces, sizeof(pieces)), &m, &err));
    assert_int_equal(err.code, ERROR_BAD_REQUEST);
    assert_non_null(strstr(err.message, "too many pieces"));
    assert_int_equal(atomic_load(&budget.used), 0);

    budget = (struct byte_budget){.max = 8000};
    assert_false(read_image(bytes_of(large, sizeof(large)), &m, &err));
    assert_int_equal(err.code, ERROR_OVERLOADED);
    assert_int_equal(atomic_load(&budget.used), 0);
    grpc_message_done(&m); /* may be called again */
}

TEST(nonsense_is_refused)
{
    static const char *const bad[] = {"\xff", "\x0a",
                                      "\x0a\x05"
                                      "abc",
                                      "\x0b", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"};
    struct grpc_message m = {0};
    struct error err = {0};

    budget = (struct byte_budget){.max = 10000};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(read_image(bytes_from_str(bad[i]), &m, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
    }
    assert_int_equal(atomic_load(&budget.used), 0);
}

TEST(a_reply_is_charged)
{
    const struct request req = {.context = {.budget = &budget}};
    Darkroom__V1__TransformResponse out = DARKROOM__V1__TRANSFORM_RESPONSE__INIT;

    budget = (struct byte_budget){.max = 10};
    out.content_type = grpc_text("abc");
    struct reply reply = grpc_reply(&req, &out.base);
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body.len, 5);
    assert_memory_equal(reply.body.data,
                        "\x12\x03"
                        "abc",
                        5);
    assert_int_equal(reply.charged_bytes, 5);
    assert_int_equal(atomic_load(&budget.used), 5);
    reply_done(&reply);
    out.content_type = grpc_text("too long for it");
    reply = grpc_reply(&req, &out.base);
    assert_int_equal(reply.error.code, ERROR_OVERLOADED);
    reply_done(&reply);
}

TEST_MAIN(NULL, NULL)
