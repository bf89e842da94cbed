/* cmocka's skip() has no reason: tests/count.py reads it from what the test prints. */
#ifndef DARKROOM_TEST_SKIP_H
#define DARKROOM_TEST_SKIP_H

#include <stdio.h>
#include <unistd.h>

#define SKIP(reason) (fprintf(stderr, "SKIPPED: %s\n", reason), skip())
#define SKIP_WITHOUT_PROC() (access("/proc/self", F_OK) == 0 ? (void)0 : SKIP("no /proc"))

#endif
