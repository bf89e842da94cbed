/* The parts of the load client. */
#pragma once

#include "exchange.h"

#include <stdio.h>

enum { LOAD_CONNECTIONS_MAX = 4096, LOAD_STATUS_MAX = 600 };

struct load_options {
    int port;
    const char *path; /* with its query */
    int connections;
    double seconds, warmup; /* seconds 0: until `count` requests are answered */
    double timeout;
    double rate; /* arrivals a second, whatever becomes of them; 0: a closed loop */
    long count;
    bool multipart;
    const char *json;    /* a file with one body a line, instead of photographs */
    const char *replies; /* a file for the bodies of replies */
    const char *results; /* the folder to watch; a request then ends with its result */
    char **photos;
    int photo_count;
};

struct load_options load_options_read(int argc, char **argv);

struct load_times {
    double *s; /* heap */
    size_t count, room;
};

struct load_stats {
    double from_s, to_s; /* the window, once it is over */
    double cpu_from_s, cpu_to_s;
    size_t requests;           /* that ended well within the window */
    struct load_times latency; /* of those that began in it */
    /* in an open loop, where 503 is an answer: */
    struct load_times refused; /* how long it took */
    struct load_times late;    /* how long after its time a request was begun */
    long without_retry_after;
    long failures[LOAD_STATUS_MAX]; /* by status; 0: connections that broke */
    long failed;
    long answered; /* all of the run, before and after the window too */
};

void load_times_add(struct load_times *times, double s);
/* One JSON object on a line. Frees the times. */
void load_stats_print(struct load_stats *stats, const struct load_options *options);

/* What is sent, made once. */
struct load_body {
    struct photo photo; /* or */
    struct iovec line;  /* a JSON body */
    char *head;         /* header fields, and a form's first part up to the file */
    size_t head_len;
    const char *tail; /* of a form */
    size_t tail_len;
};

struct load_body *load_bodies_make(const struct load_options *options, size_t *count);
void load_bodies_free(struct load_body *bodies, size_t count);
/* Fill x->piece; the mark is x's. */
void load_body_put(const struct load_body *body, uint64_t run, uint64_t counter,
                   struct exchange *x);

/* Tells when the result of an upload is stored: it watches the folder of a file store (inotify, no
 * polling) for `<id>.<format>.json`. Used by one thread. */
enum { RESULTS_ID_LEN = 64, RESULTS_MAX = 1 << 17 };

struct results {
    int fd; /* readable: call results_read */
    struct result *slots;
    size_t count;
};

/* dies if the folder cannot be watched */
void results_open(struct results *results, const char *folder);
void results_close(struct results *results);

/* The reply to an upload is there, with this id. True when its result is stored already;
 * otherwise `tag` comes back from results_read. */
bool results_expect(struct results *results, const char *id, uint64_t tag);

/* Read what has happened; `stored` is called for every awaited result. */
void results_read(struct results *results, void (*stored)(void *ctx, uint64_t tag), void *ctx);
