/* `preprocess-service --catalogue rebuild` and `--seal rotate`: work on what is stored, whether the
 * service runs or not. */
#pragma once

#include <stdbool.h>

/* Whether argv[1] names one of them. */
bool is_store_command(int argc, char **argv);
/* If so. The exit status: 0, 1 when it failed, 2 for a mistake in arguments or settings. */
int store_command(int argc, char **argv);
