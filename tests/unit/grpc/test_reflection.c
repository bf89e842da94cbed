#include "../test_cases.h"
#include "grpc/reflection.h"

static bool has(struct bytes file, const char *text)
{
    return memmem(file.data, file.len, text, strlen(text)) != NULL;
}

TEST(files_by_name)
{
    struct bytes file;

    assert_true(reflection_file("health.proto", &file));
    assert_true(has(file, "HealthCheckRequest"));
    assert_true(reflection_file("darkroom/v1/images.proto", &file));
    assert_true(has(file, "PreprocessResponse"));
    assert_false(reflection_file("images.proto", &file));
    assert_false(reflection_file("", &file));
}

TEST(files_by_symbol)
{
    static const char *const known[] = {
        "darkroom.v1.Images",
        "darkroom.v1.Images.Upload",
        "darkroom.v1.ImageRequest",
        "darkroom.v1.ImageRequest.OptionsEntry",
        "darkroom.v1.ImageRequest.options",
        "darkroom.v1.ClassifyRequest.source",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
        "grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING",
        "inference.ModelInferRequest.InferInputTensor.ParametersEntry.value",
    };
    static const char *const unknown[] = {
        "",
        "darkroom",
        "darkroom.v1",
        "darkroom.v1.",
        "Images",
        "darkroom.v1.Image",
        "darkroom.v1.Images.",
        "darkroom.v1.Images.Nothing",
        "inference.",
        "inferenceX",
        "darkroom.v1.Images.Upload.more",
    };
    struct bytes file;

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        assert_true(reflection_file_of(known[i], &file));
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
        assert_false(reflection_file_of(unknown[i], &file));
    assert_true(reflection_file_of("darkroom.v1.Labels", &file));
    assert_true(has(file, "darkroom/v1/labels.proto"));
}

TEST(all_services)
{
    char name[REFLECTION_NAME_MAX];
    bool images = false, health = false;
    size_t count = 0;

    for (; reflection_service(count, name); count++) {
        images = images || strcmp(name, "darkroom.v1.Images") == 0;
        health = health || strcmp(name, "grpc.health.v1.Health") == 0;
    }
    assert_true(images && health);
    assert_true(count >= 5);
    assert_false(reflection_service(count + 1, name));
}

TEST_MAIN(NULL, NULL)
