#include "../test_cases.h"
#include "base/bytes.h"
#include "base/metrics.h"
#include "base/stages.h"

static void assert_text(const struct stages *stages, const char *should)
{
    char text[STAGES_TEXT_MAX];

    stages_text(stages, text);
    assert_string_equal(text, should);
}

/* Without a request it is counted all the same. */
TEST(test_metric)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(1 << 20);
    struct error err = {0};

    stage_took(NULL, STAGE_FETCH, 0.5);
    assert_true(metrics_render(&out, &err));
    const char *text = buffer_cstr(&out, &err);
    assert_non_null(text);
    assert_non_null(strstr(text, "stage_duration_seconds_count{stage=\"fetch\"} 1\n"));
}

/* In the order of a request, whatever the order in which they ended; what is done twice adds up. */
TEST(test_text)
{
    struct stages s = {0};

    assert_text(&s, "");
    stage_took(&s, STAGE_DECODE, 0.0012);
    assert_text(&s, "decode;dur=1.2");
    stage_took(&s, STAGE_RECEIVE, 0);
    stage_took(&s, STAGE_INFER, 1.5);
    stage_took(&s, STAGE_DECODE, 0.001);
    assert_text(&s, "receive;dur=0.0, decode;dur=2.2, infer;dur=1500.0");
}

/* A header's value has an end: whole stages are left out, never half of one. */
TEST(test_it_fits)
{
    struct stages s = {0};
    char text[STAGES_TEXT_MAX];

    for (int i = 0; i < STAGES; i++)
        stage_took(&s, (enum stage)i, 1e9);
    stages_text(&s, text);
    assert_true(strlen(text) < STAGES_TEXT_MAX && strlen(text) > STAGES_TEXT_MAX / 2);
    assert_string_equal(text + strlen(text) - 2, ".0");
}

TEST_MAIN(NULL, NULL)
