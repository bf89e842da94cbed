/* cmocka's skip() has no reason: tests/count.py reads it from what the test prints. */
#ifndef DARKROOM_TEST_SKIP_H
#define DARKROOM_TEST_SKIP_H

#include <stdio.h>

#define SKIP(reason) (fprintf(stderr, "SKIPPED: %s\n", reason), skip())

#endif
