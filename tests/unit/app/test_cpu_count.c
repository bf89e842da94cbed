#include "../test_cases.h"
#include "app/cpu_count.h"
#include "base/bytes.h"

#include <sched.h>
#include <sys/stat.h>

/* A made-up cgroup file system. */
static char root[] = "/tmp/darkroom-cgroup-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[512];

    assert_true(snprintf(path, sizeof(path), "%s/%s", root, name) < (int)sizeof(path));
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(path, 0777);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int make_root(void **state)
{
    strcpy(root + strlen(root) - 6, "XXXXXX");
    return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

TEST_WITH(version_2, make_root, remove_root)
{
    static const struct {
        const char *max;
        int available, expected;
    } table[] = {
        {"max 100000\n", 8, 8},
        {"100000 100000\n", 8, 1},
        {"150000 100000\n", 8, 2},
        {"200000 100000\n", 8, 2},
        {"200001 100000\n", 8, 3},
        {"1000 100000\n", 8, 1},
        {"50000 50000\n", 8, 1},
        {"9900000 100000\n", 8, 8},
        {"99999999999999999999 1\n", 8, 8},
        {"0 100000\n", 8, 8},
        {"100000 0\n", 8, 8},
        {"-1 100000\n", 8, 8},
        {"nonsense\n", 8, 8},
        {"", 8, 8},
        {"150000 100000\n", 1, 1},
        {"150000 100000\n", 0, 1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        put("app/cpu.max", table[i].max);
        int got = cpu_count_within(root, "0::/app\n", table[i].available);
        if (got != table[i].expected)
            fail_msg("%d CPUs of %d for %s", got, table[i].available, table[i].max);
    }
}

TEST_WITH(the_least_on_the_way_up_counts, make_root, remove_root)
{
    put("slice/app/leaf/cpu.max", "400000 100000\n");
    put("slice/app/cpu.max", "max 100000\n");
    put("slice/cpu.max", "200000 100000\n");
    assert_int_equal(cpu_count_within(root, "0::/slice/app/leaf\n", 16), 2);
    assert_int_equal(cpu_count_within(root, "0::/slice/app\n", 16), 2);
    assert_int_equal(cpu_count_within(root, "0::/elsewhere\n", 16), 16);
    put("cpu.max", "100000 100000\n"); /* in a container the root is the container's own group */
    assert_int_equal(cpu_count_within(root, "0::/slice/app/leaf\n", 16), 1);
    assert_int_equal(cpu_count_within(root, "0::/\n", 16), 1);
    assert_int_equal(cpu_count_within(root, "0::/not/visible/here\n", 16), 1);
}

TEST_WITH(version_1, make_root, remove_root)
{
    const char *self = "12:pids:/app\n4:cpu,cpuacct:/app\n3:cpuset:/other\n1:name=systemd:/app\n";

    assert_int_equal(cpu_count_within(root, self, 8), 8);
    put("cpu/app/cpu.cfs_quota_us", "-1\n");
    put("cpu/app/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_within(root, self, 8), 8);
    put("cpu/app/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(cpu_count_within(root, self, 8), 3);
    assert_int_equal(cpu_count_within(root, "4:cpuacct,cpu:/app\n", 8), 3);
    assert_int_equal(cpu_count_within(root, "4:cpu:/app", 8), 3);
    assert_int_equal(cpu_count_within(root, "4:cpuset:/app\n", 8), 8);
    put("cpu/cpu.cfs_quota_us", "100000\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_within(root, self, 8), 1);
}

TEST_WITH(both_versions_together, make_root, remove_root)
{
    put("app/cpu.max", "300000 100000\n");
    put("cpu/app/cpu.cfs_quota_us", "200000\n");
    put("cpu/app/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_within(root, "4:cpu,cpuacct:/app\n0::/app\n", 8), 2);
}

TEST_WITH(malformed_descriptions, make_root, remove_root)
{
    static const char *const texts[] = {"",
                                        "\n",
                                        ":",
                                        "::",
                                        "0::",
                                        "0",
                                        "no colons",
                                        "4:cpu",
                                        "::::",
                                        "0::no-slash\n",
                                        "0::/../../..\n"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_int_equal(cpu_count_within(root, texts[i], 4), 4);
}

TEST(of_this_process)
{
    cpu_set_t set;

    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    assert_in_range(cpu_count(), 1, CPU_COUNT(&set));
}

TEST_MAIN(NULL, NULL)
