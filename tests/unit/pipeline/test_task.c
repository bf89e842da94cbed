/* A task's record in a store, and the timeline that is drawn of tasks. */
#include "../../../preprocess_service/pipeline/timeline.h"
#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include "../test_cases.h"
#include "../test_folder.h"

static struct task example(int number)
{
    struct task task = {
        .state = TASK_DONE,
        .file_name = "a \"b\" \xe2\x98\x83.jpg",
        .owner = "host 0.0.0.0:8000",
        .until_ms = 1234567890123,
        .label = "tench",
        .bytes = 17,
        .accepted_s = 1000.25 + number,
    };

    snprintf(task.id, sizeof(task.id), "%08d-0000-4000-8000-000000000000", number);
    snprintf(task.boot, sizeof(task.boot), "%s", task.id);
    for (int i = 0; i < PIPELINE_STAGES; i++)
        task.spans[i] = (struct task_span){task.accepted_s + i, task.accepted_s + i + 0.5};
    return task;
}

TEST(a_record_comes_back)
{
    char folder[TEST_FOLDER_MAX];
    assert_int_equal(test_folder_make(folder), 0);
    CLEANUP_FREE char *url = xasprintf("file://%s/objects", folder);
    struct error err = {0};
    struct store *store = store_open(&(struct store_options){.url = url}, &err);
    const int64_t deadline_ms = clock_monotonic_ms() + 60000;
    struct task task = example(1), back;

    assert_non_null(store);
    assert_false(task_load(store, task.id, deadline_ms, &back, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    for (int i = TASK_PENDING; i <= TASK_FAILED; i++) { /* each replaces the one before */
        task.state = (enum task_state)i;
        assert_true(task_save(store, &task, deadline_ms, &err));
        assert_true(task_load(store, task.id, deadline_ms, &back, &err));
        assert_int_equal(back.state, i);
        assert_string_equal(back.file_name, task.file_name);
        assert_string_equal(back.owner, task.owner);
        assert_string_equal(back.boot, task.boot);
        assert_string_equal(back.label, task.label);
        assert_int_equal(back.until_ms, task.until_ms);
        assert_int_equal(back.bytes, task.bytes);
        assert_memory_equal(back.spans, task.spans, sizeof(task.spans));
    }
    CLEANUP(buffer_done) struct buffer picture = {0};
    assert_true(
        task_save_picture(store, &task, bytes_of("seventeen bytes..", 17), deadline_ms, &err));
    assert_true(task_load_picture(store, &task, deadline_ms, &picture, &err));
    assert_int_equal(picture.len, 17);

    char key[64];
    snprintf(key, sizeof(key), "tasks/%s.json", task.id);
    assert_true(store_put(store,
                          &(struct store_put){.key = key,
                                              .data = bytes_from_str("{\"state\":\"gone\"}"),
                                              .content_type = "application/json",
                                              .deadline_ms = deadline_ms},
                          NULL, &err));
    assert_false(task_load(store, task.id, deadline_ms, &back, &err));
    assert_int_equal(err.code, ERROR_INTERNAL);
    store_free(store);
    assert_int_equal(test_folder_remove(folder), 0);
}

TEST(the_last_32_are_drawn)
{
    static struct timeline timeline = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct timeline_view view;
    struct task task;

    for (int i = 0; i < 40; i++) {
        task = example(i);
        timeline_add(&timeline, &task);
        timeline_look(&timeline, &task, &view);
        assert_int_equal(view.count, i < 32 ? i + 1 : 32);
        assert_string_equal(view.pictures[view.count - 1].id, task.id);
    }
    assert_string_equal(view.pictures[0].id, example(8).id);
    task = example(3); /* no more among them */
    timeline_look(&timeline, &task, &view);
    assert_int_equal(view.count, 32);
    assert_string_equal(view.pictures[31].id, task.id);
    assert_string_equal(view.pictures[0].id, example(9).id);
    timeline_look(&timeline, NULL, &view);
    assert_string_equal(view.pictures[31].id, example(39).id);
}

TEST(a_pause_is_left_out)
{
    static struct timeline timeline = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct timeline_view view;
    const int accepted[] = {0, 5, 600, 599, 1204, 1804, 1800}; /* each takes 3.5 s */
    const size_t count[] = {1, 2, 3, 4, 1, 2, 3};

    timeline_look(&timeline, NULL, &view);
    assert_int_equal(view.count, 0);
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        struct task task = example(accepted[i]);
        timeline_add(&timeline, &task);
        timeline_look(&timeline, NULL, &view);
        assert_int_equal(view.count, count[i]);
        assert_string_equal(view.pictures[view.count - 1].id, task.id);
    }
    struct task task = example(5); /* asked for later: all is drawn from then on */
    timeline_look(&timeline, &task, &view);
    assert_int_equal(view.count, ARRAY_SIZE(accepted));
}

static size_t drawn(const struct timeline_view *view, enum plot_format format)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(1 << 20);
    struct error err = {0};

    if (!plot_draw(view, format, &out, &err))
        fail_msg("%s", err.message);
    assert_true(format == PLOT_PNG ? bytes_starts_with(buffer_view(&out), "\x89PNG", 4)
                                   : bytes_starts_with(buffer_view(&out), "<?xml", 5));
    return out.len;
}

TEST(a_plot)
{
    struct timeline_view view = {0};

    for (int format = PLOT_PNG; format <= PLOT_SVG; format++) {
        view.count = 0;
        size_t empty = drawn(&view, (enum plot_format)format);
        for (; view.count < TIMELINE_PICTURES; view.count++) {
            struct timeline_picture *picture = &view.pictures[view.count];
            struct task task = example((int)view.count);

            /* all in one lane's time, with a name that is too long; one stage never ran */
            utf8_copy(picture->file_name, sizeof(picture->file_name),
                      "\x01\xf0\x9f\x90\x88 a name of more than thirty-two characters, so that it "
                      "is cut.jpg");
            picture->accepted_s = 1000;
            memcpy(picture->spans, task.spans, sizeof(task.spans));
            picture->spans[view.count % PIPELINE_STAGES] = (struct task_span){1000, 1100};
            picture->spans[(view.count + 1) % PIPELINE_STAGES] = (struct task_span){0, 0};
        }
        assert_true(drawn(&view, (enum plot_format)format) > empty + 1000);
    }
}

TEST(no_room_for_a_plot)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(100);
    struct error err = {0};

    for (int format = PLOT_PNG; format <= PLOT_SVG; format++) {
        assert_false(plot_draw(&(struct timeline_view){0}, (enum plot_format)format, &out, &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
    }
}

TEST(texts_are_cut_between_characters)
{
    char out[6];

    utf8_copy(out, sizeof(out), "abc");
    assert_string_equal(out, "abc");
    utf8_copy(out, sizeof(out), "abcde");
    assert_string_equal(out, "abcde");
    utf8_copy(out, sizeof(out), "abc\xe2\x98\x83");
    assert_string_equal(out, "abc");
    utf8_copy(out, sizeof(out), "ab\xe2\x98\x83z");
    assert_string_equal(out, "ab\xe2\x98\x83");
}

TEST_MAIN(NULL, NULL)
