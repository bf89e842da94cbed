/* A task of the pipeline: one picture's way through its stages, and the record of it in the store,
 * which outlives this process. */
#pragma once

#include "stage.h"

enum { TASK_TEXT_MAX = 256, TASK_OWNER_MAX = 512 };

enum task_state { TASK_PENDING, TASK_DONE, TASK_FAILED };

struct task_span { /* wall clock, seconds; 0 and 0: it never began */
    double begin_s, end_s;
};

struct task {
    char id[UUID_LEN + 1];
    enum task_state state;
    char file_name[TASK_TEXT_MAX];
    char owner[TASK_OWNER_MAX]; /* whose it is: one place has one process at a time */
    char boot[UUID_LEN + 1];    /* that process */
    int64_t until_ms;           /* wall clock: what is pending then will not end */
    char label[STAGE_LABEL_MAX];
    char error[TASK_TEXT_MAX]; /* of one that failed; never empty then */
    uint64_t bytes;            /* of the picture of one that is done */
    double accepted_s;         /* wall clock */
    struct task_span spans[PIPELINE_STAGES];
};

/* Write the record, replacing an older one. Errors of store_put. */
bool task_save(struct store *store, const struct task *task, int64_t deadline_ms,
               struct error *err) NODISCARD;
/* Errors of store_get; ERROR_INTERNAL: the record is not one of ours. */
bool task_load(struct store *store, const char *id, int64_t deadline_ms, struct task *ret,
               struct error *err) NODISCARD;

/* The picture that came out; to be saved before the record that says so. */
bool task_save_picture(struct store *store, const struct task *task, struct bytes png,
                       int64_t deadline_ms, struct error *err) NODISCARD;
/* *ret has room for task->bytes. */
bool task_load_picture(struct store *store, const struct task *task, int64_t deadline_ms,
                       struct buffer *ret, struct error *err) NODISCARD;
