#include "app/cpu_count.h"

#include "base/strings.h"
#include "base/xmalloc.h"

#include <math.h>
#include <sched.h>
#include <string.h>

static bool read_line(const char *path, char *line, int size)
{
    CLEANUP_FCLOSE FILE *f = fopen(path, "re");

    if (f == NULL || fgets(line, size, f) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    return true;
}

static int limit(int current, double quota, double period)
{
    if (quota <= 0 || period <= 0)
        return current;
    double cpus = ceil(quota / period);
    return cpus < current ? (int)cpus : current;
}

/* cgroup v2: "max 100000" or "150000 100000" */
static int limit_v2(int current, const char *dir)
{
    char path[4096], line[64];
    double quota, period;

    snprintf(path, sizeof(path), "%s/cpu.max", dir);
    if (read_line(path, line, sizeof(line)) && sscanf(line, "%lf %lf", &quota, &period) == 2)
        return limit(current, quota, period);
    return current;
}

static int limit_v1(int current, const char *dir)
{
    char path[4096], quota[64], period[64];

    snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", dir);
    if (!read_line(path, quota, sizeof(quota)))
        return current;
    snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
    if (!read_line(path, period, sizeof(period)))
        return current;
    return limit(current, strtod(quota, NULL), strtod(period, NULL));
}

/* A quota on any ancestor binds too, so walk from the process's group up to the root. */
static int limit_upwards(int current, const char *root, const char *group,
                         int (*limit_dir)(int current, const char *dir))
{
    char dir[2048];

    snprintf(dir, sizeof(dir), "%s%s", root, strcmp(group, "/") == 0 ? "" : group);
    size_t root_len = strlen(root);
    for (;;) {
        current = limit_dir(current, dir);
        char *slash = strrchr(dir, '/');
        if (slash == NULL || (size_t)(slash - dir) < root_len)
            return current;
        *slash = '\0';
    }
}

int cpu_count_within(const char *cgroup_root, const char *proc_self_cgroup, int available)
{
    int cpus = available > 0 ? available : 1;
    char root[1024];

    CLEANUP_FREE char *copy = xstrdup(proc_self_cgroup);
    char *save = NULL;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        /* "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1) */
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        controllers++;
        if (*controllers == '\0') {
            cpus = limit_upwards(cpus, cgroup_root, group, limit_v2);
        } else if (strcmp(controllers, "cpu") == 0 || string_starts_with(controllers, "cpu,") ||
                   string_ends_with(controllers, ",cpu")) {
            snprintf(root, sizeof(root), "%s/cpu", cgroup_root);
            cpus = limit_upwards(cpus, root, group, limit_v1);
        }
    }
    return cpus;
}

int cpu_count(void)
{
    cpu_set_t set;
    char text[4096] = "";

    int available = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    CLEANUP_FCLOSE FILE *f = fopen("/proc/self/cgroup", "re");
    if (f != NULL)
        text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    return cpu_count_within("/sys/fs/cgroup", text, available);
}
