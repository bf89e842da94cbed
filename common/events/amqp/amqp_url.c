#include "events/amqp/amqp_url.h"

#include "base/strings.h"

#include <string.h>

bool amqp_url_is(const char *url)
{
    return string_starts_with(url, "amqp://") || string_starts_with(url, "amqps://");
}

/* Percent-decode `len` bytes into a name. */
static bool decode(const char *what, const char *text, size_t len, char out[AMQP_NAME_MAX + 1],
                   struct error *err)
{
    CLEANUP(buffer_done) struct buffer plain = BUFFER_MAX(AMQP_NAME_MAX);
    char encoded[3 * AMQP_NAME_MAX + 1];
    struct error ignored = {0};

    if (len >= sizeof(encoded))
        return error_set(err, ERROR_CONFIG, "its %s is too long", what);
    memcpy(encoded, text, len);
    encoded[len] = '\0';
    if (!string_percent_decode(encoded, &plain, &ignored))
        return error_set(err, ERROR_CONFIG, "its %s is not percent-encoded", what);
    if (plain.len > 0)
        memcpy(out, plain.data, plain.len);
    out[plain.len] = '\0';
    return true;
}

static bool parse_user(const char *text, size_t len, struct amqp_url *url, struct error *err)
{
    const char *colon = memchr(text, ':', len);
    size_t user = colon != NULL ? (size_t)(colon - text) : len;

    return decode("user", text, user, url->user, err) &&
           (colon == NULL || decode("password", colon + 1, len - user - 1, url->password, err));
}

static bool parse_host(const char *text, size_t len, struct amqp_url *url, struct error *err)
{
    bool v6 = len > 0 && *text == '[';
    const char *end = v6 ? memchr(text, ']', len) : memchr(text, ':', len);
    const char *host = v6 ? text + 1 : text;
    char port[8] = "";

    if (v6 && end == NULL)
        return error_set(err, ERROR_CONFIG, "its host has no ]");
    if (memchr(text, '@', len) != NULL) /* the rest of a password, which is in no error */
        return error_set(err, ERROR_CONFIG, "its user or password has an @ (write %%40)");
    size_t host_len = end != NULL ? (size_t)(end - host) : len;
    const char *rest = v6 ? end + 1 : host + host_len;
    size_t rest_len = (size_t)(text + len - rest);
    if (host_len == 0 || host_len > AMQP_NAME_MAX)
        return error_set(err, ERROR_CONFIG, "it names no host");
    memcpy(url->host, host, host_len);
    url->host[host_len] = '\0';
    if (rest_len == 0)
        return true;
    if (*rest != ':' || rest_len > sizeof(port))
        return error_set(err, ERROR_CONFIG, "its port is not 1 to 65535");
    memcpy(port, rest + 1, rest_len - 1);
    port[rest_len - 1] = '\0';
    return string_to_int64(port, 1, UINT16_MAX, &url->port) ||
           error_set(err, ERROR_CONFIG, "its port is not 1 to 65535");
}

bool amqp_url_parse(const char *text, struct amqp_url *url, struct error *err)
{
    static const char heartbeat[] = "?heartbeat=";

    if (!amqp_url_is(text))
        return error_set(err, ERROR_CONFIG, "not amqp(s)://user:password@host:port/vhost");
    *url = (struct amqp_url){.tls = string_starts_with(text, "amqps://"),
                             .user = "guest",
                             .vhost = "/",
                             .heartbeat_s = AMQP_HEARTBEAT_DEFAULT_S};
    url->port = url->tls ? 5671 : 5672;
    const char *authority = strstr(text, "://") + 3;
    size_t len = strcspn(authority, "/?#");
    const char *path = authority + len, *at = memchr(authority, '@', len);
    const char *host = at != NULL ? at + 1 : authority;
    if ((at != NULL && !parse_user(authority, (size_t)(at - authority), url, err)) ||
        !parse_host(host, (size_t)(path - host), url, err))
        return false;
    if (at == NULL)
        strcpy(url->password, "guest");
    size_t vhost = strcspn(path, "?#");
    const char *query = path + vhost;
    if (vhost > 0 && memchr(path + 1, '/', vhost - 1) != NULL)
        return error_set(err, ERROR_CONFIG, "its vhost has a / (write %%2F)");
    if (vhost > 1 && !decode("vhost", path + 1, vhost - 1, url->vhost, err))
        return false;
    if (*query != '\0' && (!string_starts_with(query, heartbeat) ||
                           !string_to_int64(query + strlen(heartbeat), 1, 3600, &url->heartbeat_s)))
        return error_set(err, ERROR_CONFIG, "after ? only heartbeat=1..3600 is known");
    return true;
}
