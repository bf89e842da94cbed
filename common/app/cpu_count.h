/* How many CPUs this process may use: the least of its affinity mask and its cgroup CPU quota
 * (v2 cpu.max, v1 cpu.cfs_quota_us / cpu.cfs_period_us), rounded up, at least 1. */
#pragma once

int cpu_count(void);

/* The same from a given root of the cgroup file system ("/sys/fs/cgroup") and the text of
 * /proc/self/cgroup; `available` is the affinity count. For tests. */
int cpu_count_within(const char *cgroup_root, const char *proc_self_cgroup, int available);
