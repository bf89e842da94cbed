/* `preprocess-service --outbox list|requeue|purge|reconcile [EVENT_ID]`: the operator's view of the
 * outbox, live or stopped. */
#pragma once

/* argv[1] is "--outbox". Returns the exit status: 0, 1 failed, 2 misused. */
int outbox_command(int argc, char **argv);
