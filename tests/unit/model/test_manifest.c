#include "../test_cases.h"
#include "model/manifest.h"

#include <jansson.h>
#include <sys/stat.h>

static char folder[] = "/tmp/test_manifest.XXXXXX";
static char path[64];

static const char good[] =
    "{'name':'tiny','file':'tiny.onnx','sha256':"
    "'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef',"
    "'input':{'tensor':'in','layout':'NHWC','height':3,'width':5,'mean':[1,2.5,3],'std':[4,5,6],"
    "'resize':{'short_side':7,'crop':'center'}},"
    "'output':{'tensor':'out','activation':'softmax','drop_first':1},"
    "'labels':{'file':'labels.txt'},'unknown':1}";

static void write_file(const char *name, const char *text)
{
    char full[128];

    snprintf(full, sizeof(full), "%s/%s", folder, name);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static const char good_mask[] =
    "{'name':'tiny','file':'tiny.onnx','sha256':"
    "'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef',"
    "'input':{'tensor':'in','layout':'NCHW','height':3,'width':5,'mean':[1,2.5,3],'std':[4,5,6],"
    "'resize':{'stretch':true}},'output':{'tensor':'out','activation':'none'}}";

/* JSON is written with single quotes here, and `from`, if not NULL, is replaced by `to`. */
static void write_changed(const char *json, const char *from, const char *to)
{
    char text[2048];
    const char *at = from == NULL ? NULL : strstr(json, from);

    assert_true(from == NULL || at != NULL);
    if (at == NULL)
        snprintf(text, sizeof(text), "%s", json);
    else
        snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - json), json, to, at + strlen(from));
    for (char *p = text; *p != '\0'; p++)
        if (*p == '\'')
            *p = '"';
    write_file("m.json", text);
}

static void write_manifest(const char *from, const char *to)
{
    write_changed(good, from, to);
}

static void assert_kind_refused(enum manifest_kind kind, const char *what)
{
    struct manifest manifest;
    struct error err = {0};

    if (manifest_read(path, kind, &manifest, &err))
        fail_msg("taken, in spite of %s", what);
    assert_int_equal(err.code, ERROR_CONFIG);
    if (strstr(err.message, what) == NULL)
        fail_msg("\"%s\" does not say %s", err.message, what);
    assert_null(manifest.file);
    assert_null(manifest.labels);
    assert_null(manifest.input_tensor);
}

static void assert_refused(const char *what)
{
    assert_kind_refused(MANIFEST_CLASSIFIER, what);
}

static int setup(void **state)
{
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/m.json", folder);
    return 0;
}

static int teardown(void **state)
{
    char full[128];

    unlink(path);
    snprintf(full, sizeof(full), "%s/labels.txt", folder);
    unlink(full);
    return rmdir(folder);
}

static int good_labels(void **state)
{
    write_file("labels.txt", "background\ntench, Tinca tinca\r\ngoldfish\n\nlast without newline");
    return 0;
}

TEST_WITH(test_read, good_labels, NULL)
{
    CLEANUP(manifest_done) struct manifest m;
    struct error err = {0};
    char file[128];

    write_manifest(NULL, NULL);
    assert_true(manifest_read(path, MANIFEST_CLASSIFIER, &m, &err));
    assert_string_equal(m.name, "tiny");
    snprintf(file, sizeof(file), "%s/tiny.onnx", folder);
    assert_string_equal(m.file, file);
    assert_string_equal(m.input_tensor, "in");
    assert_string_equal(m.output_tensor, "out");
    assert_false(m.input.nchw);
    assert_int_equal(m.input.height, 3);
    assert_int_equal(m.input.width, 5);
    assert_int_equal(m.input.short_side, 7);
    assert_true(m.input.mean[1] == 2.5F && m.input.std[2] == 6);
    assert_true(m.softmax);
    assert_int_equal(m.drop_first, 1);
    assert_int_equal(m.label_count, 4);
    assert_string_equal(m.labels[0], "tench, Tinca tinca");
    assert_string_equal(m.labels[1], "goldfish");
    assert_string_equal(m.labels[2], "");
    assert_string_equal(m.labels[3], "last without newline");
}

TEST_WITH(test_mistakes, good_labels, NULL)
{
    static const struct {
        const char *from, *to, *told;
    } cases[] = {
        {"'name':'tiny'", "'name':''", "name"},
        {"'name':'tiny'", "'name':'a/b'", "name"},
        {"'name':'tiny'", "'name':7", "name"},
        {"'tiny.onnx'", "''", "file"},
        {"'file':'tiny.onnx',", "", "file"},
        {"'0123", "'0123ABC", "sha256"},
        {"'0123", "'123", "sha256"},
        {"'in'", "7", "input.tensor"},
        {"'NHWC'", "'nhwc'", "input.layout"},
        {"'height':3", "'height':0", "input.height"},
        {"'height':3", "'height':3.5", "input.height"},
        {"'height':3", "'height':99999", "input.height"},
        {"'width':5,", "", "input.width"},
        {"[1,2.5,3]", "[1,2]", "input.mean"},
        {"[1,2.5,3]", "[1,2,'3']", "input.mean"},
        {"[1,2.5,3]", "[1,2,1e99]", "input.mean"},
        {"[4,5,6]", "[4,0,6]", "std"},
        {"[4,5,6]", "[4,1e99,6]", "std"},
        {"[4,5,6]", "[4,-5,6]", "std"},
        {"'short_side':7", "'short_side':4", "short_side"},
        {"'center'", "'top'", "crop"},
        {"'out'", "''", "output.tensor"},
        {"'softmax'", "'sigmoid'", "output.activation"},
        {"'drop_first':1", "'drop_first':-1", "drop_first"},
        {"'drop_first':1", "'drop_first':5", "no labels"},
        {"'labels.txt'", "'none.txt'", "none.txt"},
        {"'labels':{'file':'labels.txt'},", "", "labels.file"},
        {"'unknown':1", "'name':'twice'", "duplicate"},
        {"'unknown':1}", "", "m.json"},
        {"{'name'", "[{'name'", "m.json"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        write_manifest(cases[i].from, cases[i].to);
        assert_refused(cases[i].told);
    }
    write_file("m.json", "[]");
    assert_refused("name");
    unlink(path);
    assert_refused("make model");
}

TEST(test_labels_that_are_not_text)
{
    write_manifest(NULL, NULL);
    write_file("labels.txt", "background\n\xff\xfe\n");
    assert_refused("UTF-8");
    write_file("labels.txt", "");
    assert_refused("no labels");
}

TEST(test_mask)
{
    CLEANUP(manifest_done) struct manifest m;
    struct error err = {0};

    write_changed(good_mask, NULL, NULL);
    assert_true(manifest_read(path, MANIFEST_MASK, &m, &err));
    assert_int_equal(manifest_input_count(&m), 45);
    assert_int_equal(manifest_output_count(&m), 15);
    assert_int_equal(m.label_count, 0);
    assert_refused("labels.file"); /* it is no classifier */
    write_changed(good_mask, "'stretch':true", "'stretch':false");
    assert_kind_refused(MANIFEST_MASK, "stretch");
    write_changed(good_mask, "'none'", "'softmax'");
    assert_kind_refused(MANIFEST_MASK, "output.activation");
    write_manifest(NULL, NULL); /* nor is a classifier one of these */
    assert_kind_refused(MANIFEST_MASK, "stretch");
}

TEST_MAIN(setup, teardown)
