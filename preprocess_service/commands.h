/* What the operator does from the command line. Each returns the exit status: 0, 1 when it failed,
 * 2 for a mistake in arguments or settings. */
#pragma once

#include <stdbool.h>

/* `preprocess-service --outbox list|requeue|purge|reconcile [EVENT_ID]`: the operator's view of the
 * outbox, live or stopped. argv[1] is "--outbox". */
int outbox_command(int argc, char **argv);

/* `preprocess-service --catalogue rebuild` and `--seal rotate`: work on what is stored, whether the
 * service runs or not. Whether argv[1] names one of them; if so, do it. */
bool is_store_command(int argc, char **argv);
int store_command(int argc, char **argv);

/* `preprocess-service --users …`: accounts. */
int users_command(int argc, char **argv);
