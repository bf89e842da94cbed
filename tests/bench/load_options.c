#include "load.h"

#include "program.h"

#include <getopt.h>
#include <stdlib.h>

static const char usage[] =
    "load --port N [option]... [photo]...\n"
    "A loop of uploads, each of them unique; one JSON object on stdout. Closed (each connection "
    "sends\n"
    "its next request after a reply), or open: requests begin at their times, whatever became of "
    "the\n"
    "others, and latencies count from these times.\n"
    "  --path /preprocess      with a query, if need be\n"
    "  --connections 8         one request at a time on each: in an open loop the most at once\n"
    "  --rate N                an open loop of N requests a second; a 503 is then no failure\n"
    "  --seconds 2             how long to measure, or\n"
    "  --count N               how many requests\n"
    "  --warmup 0              seconds before, not counted (with --seconds)\n"
    "  --timeout 120           seconds after which the run is given up (exit status 3)\n"
    "  --multipart             send forms instead of raw images\n"
    "  --json FILE             send the lines of this file, one body each, in turn\n"
    "  --replies FILE          write the replies' bodies there, one a line\n"
    "  --results FOLDER        a request ends when <id>.<format>.json is in the folder\n";

enum {
    PORT = 1,
    PATH,
    CONNECTIONS,
    SECONDS,
    COUNT,
    WARMUP,
    TIMEOUT,
    RATE,
    MULTIPART,
    JSON,
    REPLIES,
    RESULTS
};

static const struct option table[] = {
    {"port", required_argument, NULL, PORT},
    {"path", required_argument, NULL, PATH},
    {"connections", required_argument, NULL, CONNECTIONS},
    {"seconds", required_argument, NULL, SECONDS},
    {"count", required_argument, NULL, COUNT},
    {"warmup", required_argument, NULL, WARMUP},
    {"timeout", required_argument, NULL, TIMEOUT},
    {"rate", required_argument, NULL, RATE},
    {"multipart", no_argument, NULL, MULTIPART},
    {"json", required_argument, NULL, JSON},
    {"replies", required_argument, NULL, REPLIES},
    {"results", required_argument, NULL, RESULTS},
    {0},
};

static void set(struct load_options *o, int option, const char *text)
{
    switch (option) {
    case PORT:
        o->port = (int)number_arg("--port", text, 1, 65535);
        break;
    case PATH:
        o->path = text;
        break;
    case CONNECTIONS:
        o->connections = (int)number_arg("--connections", text, 1, LOAD_CONNECTIONS_MAX);
        break;
    case SECONDS:
        o->seconds = seconds_arg("--seconds", text);
        break;
    case COUNT:
        o->count = number_arg("--count", text, 1, 10000000);
        break;
    case WARMUP:
        o->warmup = seconds_arg("--warmup", text);
        break;
    case TIMEOUT:
        o->timeout = seconds_arg("--timeout", text);
        break;
    case RATE:
        o->rate = (double)number_arg("--rate", text, 1, 100000);
        break;
    case MULTIPART:
        o->multipart = true;
        break;
    case JSON:
        o->json = text;
        break;
    case REPLIES:
        o->replies = text;
        break;
    case RESULTS:
        o->results = text;
        break;
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

struct load_options load_options_read(int argc, char **argv)
{
    struct load_options o = {.path = "/preprocess", .connections = 8, .seconds = 2, .timeout = 120};
    int option;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1)
        set(&o, option, optarg);
    o.photos = argv + optind;
    o.photo_count = argc - optind;
    if (o.count > 0)
        o.seconds = o.warmup = 0;
    if (o.port == 0 || (o.seconds <= 0 && o.count == 0) || (o.rate > 0 && o.seconds <= 0) ||
        (o.json == NULL) == (o.photo_count == 0)) {
        fputs(usage, stderr);
        exit(2);
    }
    return o;
}
