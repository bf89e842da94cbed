#include "../test_cases.h"
#include "store/bucket/xml.h"

struct seen {
    char text[4096];
    const char *stop_at; /* a path */
    bool fail;
};

static bool note(void *ctx, const char *path, const char *text, struct error *err)
{
    struct seen *seen = ctx;
    size_t len = strlen(seen->text);

    snprintf(seen->text + len, sizeof(seen->text) - len, "%s=%s\n", path, text);
    if (seen->stop_at == NULL || strcmp(path, seen->stop_at) != 0)
        return true;
    if (seen->fail)
        error_set(err, ERROR_BAD_REQUEST, "enough");
    return false;
}

TEST(test_elements_and_their_text)
{
    struct seen seen = {0};
    struct error err = {0};

    assert_true(
        xml_read(bytes_from_str("<?xml version='1.0'?>\n<A xmlns='urn:x'><B x='y'>one &amp; "
                                "&#252;</B><C><B/>\n</C><![CDATA[<&]]></A>"),
                 note, &seen, &err));
    assert_string_equal(seen.text, "A/B=one & \xc3\xbc\nA/C/B=\nA/C=\n\nA=<&\n");
}

TEST(test_the_visitor_stops)
{
    const char *document = "<A><B>1</B><C>2</C></A>";
    struct seen seen = {.stop_at = "A/B"};
    struct error err = {0};

    assert_fails(err, ERROR_NONE, xml_read(bytes_from_str(document), note, &seen, &err));
    assert_string_equal(seen.text, "A/B=1\n");
    seen.fail = true;
    assert_fails(err, ERROR_BAD_REQUEST, xml_read(bytes_from_str(document), note, &seen, &err));
}

static void assert_refused(const char *document)
{
    struct seen seen = {0};
    struct error err = {0};

    if (xml_read(bytes_from_str(document), note, &seen, &err))
        fail_msg("read: %.100s", document);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
}

TEST(test_what_is_refused)
{
    static char deep[20000], wide[20000];
    static const char *const bad[] = {
        "",
        "text",
        "<A>",
        "<A></B>",
        "<A/>trailing",
        "<A>\xff</A>",
        "<A>&unknown;</A>",
        "<!DOCTYPE A [<!ENTITY e 'text'>]><A>&e;</A>",
        "<!DOCTYPE A SYSTEM 'file:///etc/passwd'><A/>",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_refused(bad[i]);
    for (size_t i = 0; i < 1000; i++)
        memcpy(deep + 3 * i, "<a>", 3);
    assert_refused(deep);
    memcpy(wide, "<A>", 3);
    memset(wide + 3, 'x', 9000);
    memcpy(wide + 9003, "</A>", 5);
    assert_refused(wide);
}

/* Expat ends an empty element that we have stopped at. */
TEST(test_an_element_with_too_long_a_name)
{
    char document[700] = "<A><";
    struct seen seen = {0};
    struct error err = {0};

    memset(document + 4, 'x', 600);
    strcat(document, "/></A>");
    assert_fails(err, ERROR_UNAVAILABLE, xml_read(bytes_from_str(document), note, &seen, &err));
    assert_string_equal(seen.text, "");
}

TEST_MAIN(NULL, NULL)
