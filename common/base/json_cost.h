/* What parsing JSON costs. A tree of values takes far more memory than its text (`[],` 40 times as
 * much), so that a limit on bytes alone bounds little: ask before parsing what strangers send. */
#ifndef DARKROOM_BASE_JSON_COST_H
#define DARKROOM_BASE_JSON_COST_H

#include "base/bytes.h"

/* An upper bound, in bytes, of the memory that Jansson takes for this text, valid or not. */
int64_t json_cost(struct bytes text);

#endif
