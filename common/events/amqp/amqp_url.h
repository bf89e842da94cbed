/* "amqp(s)://[user[:password]@]host[:port][/vhost][?heartbeat=SECONDS]", RabbitMQ's URI scheme
 * (rabbitmq.com/uri-spec.html): user, password and vhost are percent-encoded; a URL without a path
 * means the vhost "/". Pure and thread-safe. */
#pragma once

#include "base/error.h"

#include <stdint.h>

enum { AMQP_NAME_MAX = 255, AMQP_HEARTBEAT_DEFAULT_S = 10 };

struct amqp_url {
    bool tls;
    char user[AMQP_NAME_MAX + 1];     /* "guest" when there is none */
    char password[AMQP_NAME_MAX + 1]; /* never in an error */
    char host[AMQP_NAME_MAX + 1];     /* of an IPv6 address without its brackets */
    char vhost[AMQP_NAME_MAX + 1];
    int64_t port;
    int64_t heartbeat_s;
};

bool amqp_url_is(const char *url);
/* ERROR_CONFIG says which part is wrong. */
bool amqp_url_parse(const char *text, struct amqp_url *url, struct error *err) NODISCARD;
